"""The routes of /admin: users, their keys and limits, and usage; errors as in the agents' API."""

import functools
import itertools
import re
import uuid

from flask import Request, Response

from chat.core.credentials import is_user_id
from chat.core.errors import InvalidRequest
from chat.core.limits import NO_RATES, Limits, write_rates
from chat.core.usage import write_csv
from chat.store.users import LIMITS, Users
from chat.turns.owners import Owners
from chat.web.access_log import audit
from chat.web.dialects import TEXT, Body, Schema
from chat.web.dialects.agents import write_error
from chat.web.routes import Route, json_response, whole_number

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MAX_USERS = 1000
_NUMBER: dict[str, object] = {"type": "integer", "minimum": 0}
_LIMITS_BODY: Schema = {
    "rate_limit": TEXT,
    "daily_token_budget": _NUMBER,
    "max_concurrent_turns": _NUMBER,
}
_USER_BODY: Schema = {"admin_key": TEXT, "user_id": TEXT}
_route = functools.partial(Route, write_error=write_error, access="admin")


class AdminRoutes:
    """The family of /admin; all of it needs the admin key."""

    def __init__(self, users: Users, owners: Owners, rotate_seconds: float) -> None:
        self._users = users
        self._owners = owners
        self._rotate_ms = int(rotate_seconds * 1000)

    def routes(self) -> list[Route]:
        add = _USER_BODY | _LIMITS_BODY
        one = "/admin/users/<path:user_id>"
        return [
            _route("POST", "/admin/users/add", self.add, body=add),
            _route("POST", "/admin/users/delete", self.delete, body=_USER_BODY),
            _route("POST", "/admin/users/rotate", self.rotate, body=_USER_BODY),
            _route("GET", "/admin/users", self.list_users, query=("admin_key", "limit")),
            _route("PATCH", one, self.change, body=_LIMITS_BODY),
            _route("DELETE", one, self.remove, status=204, query=("erase",)),
            _route("GET", "/admin/usage", self.usage, query=("from", "to", "format")),
        ]

    def add(self, request: Request) -> Response:
        """Create a user, or another key for an existing one; the key is shown only once."""
        body = _body(request)
        user_id = _new_user_id(body)
        key = self._users.add(user_id, _read_limits(body))
        audit(request, "add a key", user_id, _named_limits(body))
        return json_response({"user_id": user_id, "token": key.text})

    def delete(self, request: Request) -> Response:
        """Revoke a user's keys, at once and on every instance; the chats stay."""
        user_id = _user_id(_body(request))
        self._users.delete(user_id)
        audit(request, "revoke keys", user_id, {})
        return json_response({"message": "User deleted"})

    def rotate(self, request: Request) -> Response:
        """Give a user a new key; the old ones expire after ROTATE_SECONDS."""
        user_id = _user_id(_body(request))
        key = self._users.rotate(user_id, self._rotate_ms)
        audit(request, "rotate keys", user_id, {})
        return json_response({"user_id": user_id, "token": key.text})

    def list_users(self, request: Request) -> Response:
        """List users, newest first; only the last characters of a key are shown."""
        limit = whole_number(request, "limit", default=_MAX_USERS, minimum=1, maximum=_MAX_USERS)
        found = itertools.islice(self._users.list_users(), limit)
        audit(request, "list users", "", {})
        return json_response(
            {"users": [{"user_id": u.id, "token": u.key, **_shown(u.limits)} for u in found]}
        )

    def change(self, request: Request, user_id: str) -> Response:
        """Change a user's own limits; null restores the default of the settings."""
        body = _body(request)
        self._users.change(user_id, _read_limits(body))
        audit(request, "change limits", user_id, _named_limits(body))
        return json_response(self._owners.describe(user_id))

    def remove(self, request: Request, user_id: str) -> Response:
        """Revoke a user's keys; with erase=true, delete all data of the user as well."""
        erase = request.args.get("erase", "false")
        if erase not in ("true", "false"):
            raise InvalidRequest("`erase` must be true or false.", param="erase")
        if erase == "true":
            self._owners.erase(user_id, keep_rate_status=False)
            audit(request, "erase", user_id, {})
        else:
            self._users.delete(user_id)
            audit(request, "revoke keys", user_id, {})
        return Response(status=204)

    def usage(self, request: Request) -> Response:
        """List usage by owner, day and model, as JSON or CSV."""
        first, last = _day(request, "from", "0000-00-00"), _day(request, "to", "9999-99-99")
        rows = self._owners.usage(first, last)
        audit(request, "read usage", "", {})
        if request.args.get("format") == "csv" or request.accept_mimetypes.best == "text/csv":
            return Response(write_csv(rows), content_type="text/csv; charset=utf-8")
        return json_response({"usage": list(rows)})


def _body(request: Request) -> Body:
    return Body(request.get_data() or b"{}")


def _user_id(body: Body) -> str:
    user_id = body.name("user_id")
    if not user_id:
        raise InvalidRequest("`user_id` is missing.", param="user_id", code="missing_field")
    return user_id


def _new_user_id(body: Body) -> str:
    user_id = body.text("user_id") or str(uuid.uuid4())
    if not is_user_id(user_id):
        raise body.invalid("user_id", "must have 1 to 64 characters of A-Z a-z 0-9 . _ ~ -")
    return user_id


def _read_limits(body: Body) -> dict[str, str]:
    """The limits in a body, as the user's record stores them; "" restores the default."""
    limits: dict[str, str] = {}
    if "rate_limit" in body.fields:
        text = body.text("rate_limit") or ""
        try:
            rates = text if text == NO_RATES else Limits(text).rates
        except ValueError as problem:
            raise body.invalid("rate_limit", str(problem)) from problem
        limits["rate_limit"] = rates
    for name in LIMITS[1:]:
        if name in body.fields:
            number = body.whole_number(name, minimum=0, maximum=2**53)
            limits[name] = "" if number is None else str(number)
    return limits


def _named_limits(body: Body) -> dict[str, object]:
    """The limits in a body as they were sent, once `_read_limits` has taken them."""
    return {name: body.fields[name] for name in LIMITS if name in body.fields}


def _shown(limits: dict[str, str]) -> dict[str, object]:
    """A user's own limits, as the API shows them."""
    numbers: dict[str, object] = {name: int(limits[name]) for name in LIMITS[1:] if name in limits}
    rates = {"rate_limit": write_rates(limits["rate_limit"])} if "rate_limit" in limits else {}
    return rates | numbers


def _day(request: Request, name: str, default: str) -> str:
    day = request.args.get(name, default)
    if day != default and not _DAY.fullmatch(day):
        raise InvalidRequest(f"`{name}` must be a date like 2026-11-21.", param=name)
    return day
