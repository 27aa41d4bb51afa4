"""Routing: which handler answers which path, and what all responses have in common."""

import io
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from chat.core.errors import (
    BodyTooLarge,
    ChatkeepError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    too_large_at_once,
)
from chat.host.gate import Gate
from chat.host.relay import Relay
from chat.web.access_log import RequestEntry, entry_of, open_entry
from chat.web.auth.access import Access
from chat.web.dialects import as_it_is, write_error
from chat.web.headers import header
from chat.web.live.large import hand_over_if_large
from chat.web.paths import Paths

JSON = "application/json"
RESERVED = frozenset(
    "conversations conversation ask api admin client v1 chats me health docs openapi.json"
    " static livez llms.txt llms-full.txt favicon.ico metrics".split()
)
_CHAT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_EXPOSED = (
    "ETag, X-Request-Id, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Link"
)
_WHOSE = "Authorization, X-Firebase-AppCheck"
_DAY_SECONDS = "86400"
_LARGE_BODY_BYTES = 128 * 1024
_LARGE_BODIES_AT_ONCE = 6  # each takes several times its size, until the model is called
_SAFE_HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("X-Content-Type-Options", "nosniff"),
)
log = logging.getLogger("chatkeep")

Handler = Callable[..., Response]


class ErrorResponse(Response):
    """A response that the log has a reason for."""

    code = ""


class Route(msgspec.Struct, frozen=True, eq=False):
    """`handler(request, caller, **path variables)` answers `method` (GET: also HEAD) on `path`.

    access: "user": the handler gets a caller whose key has been checked
            "turn": a caller whose key may be left for the start of the turn to check
            "admin", "anyone": no caller
    `status` (of success), `query` and `body` only describe the route in /openapi.json.
    """

    method: str
    path: str
    handler: Handler
    write_error: Callable[[ChatkeepError], object] = write_error
    translate: Callable[[ChatkeepError], ChatkeepError] = as_it_is
    access: Literal["user", "turn", "admin", "anyone"] = "user"
    status: int = 200
    query: tuple[str, ...] = ()
    body: Mapping[str, Mapping[str, object]] = {}


class Router:
    """Answers every request in JSON, never with an HTML page of the framework or a traceback."""

    def __init__(
        self,
        routes: list[Route],
        access: Access,
        relay: Relay | None,
        *,
        max_body_bytes: int,
        origins: frozenset[str],
        observe: Callable[[RequestEntry], None] | None = None,
    ) -> None:
        self._observe = observe
        self._access = access
        self._relay = relay
        self._paths: Paths[Route] = Paths(RESERVED)
        for route in routes:
            self._paths.add(route.method, route.path, route)
            if route.method == "GET":
                self._paths.add("HEAD", route.path, route)
        self._max_body_bytes = max_body_bytes
        self._large = Gate(_LARGE_BODIES_AT_ONCE, too_large_at_once)
        self._origins = origins

    def answer(self, request: Request) -> Response:
        """Find the handler and call it; any exception becomes an error response."""
        entry = open_entry(request)
        entry.observe = self._observe
        try:
            response = self._dispatch(request)
        except ChatkeepError as error:
            response = error_response(error)
        except Exception:
            log.exception("%s failed", request.method)
            response = error_response(InternalError("An internal error occurred."))
        response = self._complete(request, entry, response)
        return hand_over_if_large(self._relay, request, response) if self._relay else response

    def refuse(self, request: Request) -> Response | None:
        """The answer to a request of which only the head has come; None: its body is needed.

        Nobody is waited for who may not come in.
        """
        for routes, _ in self._paths.find(request.path):
            if route := routes.get(request.method):
                if route.access in ("admin", "anyone"):  # the admin's key may be in the body
                    return None
                return self._refuse(request, route)
        return None

    def _refuse(self, request: Request, route: Route) -> Response | None:
        try:
            caller = self._access.identify(request)
            if not self._access.was_valid(caller):
                self._access.check(caller)
        except ChatkeepError as error:
            entry = open_entry(request)
            entry.observe = self._observe
            entry.set_route(route.path, {})
            return self._complete(request, entry, error_response(error, route.write_error))
        except Exception:  # it will show again with the body, and be answered
            log.exception("%s failed", request.method)
        return None

    def _complete(self, request: Request, entry: RequestEntry, response: Response) -> Response:
        """Give a response what all of them have."""
        if response.status_code == 204:
            response.headers.remove("Content-Type")  # Flask sets text/html even without a body
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.add("Vary", _WHOSE)  # a cache must not show one owner's answer to another
        response.headers.extend([("X-Request-Id", entry.request_id), *_SAFE_HEADERS])
        self._allow_origin(request, response)
        entry.status = response.status_code
        if isinstance(response, ErrorResponse) and not entry.report:
            entry.fail(response.code)
        response.call_on_close(entry.write)
        return response

    def _dispatch(self, request: Request) -> Response:
        """A large body is read when there is room for what is made of it, not before."""
        if (request.content_length or 0) <= _LARGE_BODY_BYTES:
            return self._read_and_route(request)
        with self._large:
            return self._read_and_route(request)

    def _read_and_route(self, request: Request) -> Response:
        _read_body(request, self._max_body_bytes)
        found = list(self._paths.find(request.path))
        if not found:
            raise NotFound("There is no such path.")
        for routes, parts in found:
            if route := routes.get(request.method):
                return self._answer_route(request, route, parts)
        allow = ", ".join(sorted({"OPTIONS"}.union(*(routes for routes, _ in found))))
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": allow})
        raise MethodNotAllowed(f"This path allows only {allow}.", headers={"Allow": allow})

    def _answer_route(self, request: Request, route: Route, parts: dict[str, str]) -> Response:
        entry_of(request).set_route(route.path, parts)
        try:
            return self._handle(request, route, parts)
        except ChatkeepError as error:
            return error_response(route.translate(error), route.write_error)

    def _handle(self, request: Request, route: Route, parts: Mapping[str, str]) -> Response:
        if route.access == "admin":
            self._access.check_admin(request)
        if route.access in ("admin", "anyone"):
            return route.handler(request, **parts)
        began = time.monotonic()
        caller = self._access.identify(request)
        checked = route.access == "user" or not self._access.was_valid(caller)
        if checked:
            self._access.check(caller)
        entry = entry_of(request)
        entry.owner, entry.auth_seconds = caller.owner, time.monotonic() - began
        try:
            if "chat_id" in parts:
                check_chat_id(parts["chat_id"])
            if request.content_length is None and len(request.get_data()) > _LARGE_BODY_BYTES:
                with self._large:
                    return route.handler(request, caller, **parts)
            return route.handler(request, caller, **parts)
        except InvalidRequest:
            if not checked:
                # Do not reveal validation errors to a caller whose key has not been checked.
                self._access.check(caller)
            raise

    def _allow_origin(self, request: Request, response: Response) -> None:
        if not self._origins:
            return
        origin = header(request, "Origin", "")
        if "*" in self._origins:
            response.headers["Access-Control-Allow-Origin"] = "*"
        else:
            response.headers.add("Vary", "Origin")
            if origin not in self._origins:
                return
            response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        if request.method == "OPTIONS":
            wanted = header(request, "Access-Control-Request-Headers", "*")
            response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
            response.headers["Access-Control-Allow-Headers"] = wanted
            response.headers["Access-Control-Max-Age"] = _DAY_SECONDS


def json_response(
    body: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """`body` is anything msgspec can encode, or JSON that is encoded already."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(data, status, headers, content_type=JSON)


def error_response(
    error: ChatkeepError, write: Callable[[ChatkeepError], object] = write_error
) -> Response:
    """An error as a response, encoded by `write`."""
    body = msgspec.json.encode(write(error))
    response = ErrorResponse(body, error.status, error.headers, content_type=JSON)
    response.code = error.code
    return response


def whole_number(request: Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """A whole number in the query. Raises InvalidRequest."""
    text = request.args.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 10 and minimum <= int(text) <= maximum:
        return int(text)
    rule = f"must be a whole number from {minimum} to {maximum}"
    raise InvalidRequest(f"`{name}` {rule}.", param=name)


def check_chat_id(chat_id: str, param: str = "chat_id") -> None:
    """Raises InvalidRequest."""
    if not _CHAT_ID.fullmatch(chat_id) or chat_id in RESERVED:
        raise InvalidRequest(
            "A chat id has 1 to 128 characters of A-Z a-z 0-9 . _ ~ -"
            " and must not be a reserved word.",
            param=param,
            code="invalid_chat_id",
        )


def _read_body(request: Request, max_bytes: int) -> None:
    """Read the body, at most `max_bytes` of it; werkzeug caches it. Raises BodyTooLarge."""
    # One byte more: werkzeug silently truncates a chunked body to the maximum.
    request.max_content_length = max_bytes + 1
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        # Else the framework would read the rest of it before answering.
        request.stream = io.BytesIO()
        raise _too_large(max_bytes) from None
    except ClientDisconnected:
        body = b""
    except Exception as problem:  # the server's parser met a bad chunk, or the client's reset
        raise _unreadable() from problem
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if request.content_length not in (None, len(body)):
        raise InvalidRequest("The body is shorter than its Content-Length.", code="invalid_json")


def _unreadable() -> InvalidRequest:
    close = {"Connection": "close"}  # where the next request begins is unknown
    return InvalidRequest("The body cannot be read.", code="invalid_json", headers=close)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body has more than {max_bytes} bytes.", headers={"Connection": "close"}
    )
