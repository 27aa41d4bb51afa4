"""Who may ask for what: user keys, ID tokens, App Check, the admin key."""

import msgspec
from flask import Request

from chat.core.credentials import ANONYMOUS, Caller, find_caller, owner_of, same
from chat.core.errors import KeyMissing, KeyRejected, NotAllowed
from chat.settings import Settings
from chat.store.users import Users
from chat.web.auth.idtokens import AppCheck, IdTokens
from chat.web.auth.jwks import KeySet
from chat.web.headers import header

_APP_CHECK = "X-Firebase-AppCheck"
_FIREBASE_ISSUER = "https://securetoken.google.com/"
_FIREBASE_KEYS = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)
_MAX_REMEMBERED = 10_000


class Access:
    """Turns a request's credentials into a caller, or refuses it."""

    def __init__(self, settings: Settings, users: Users) -> None:
        self._ways = settings.auth_ways
        self._admin_key = settings.admin_key
        self._app_check_required = settings.app_check == "required"
        self._users = users
        self._id_tokens = _id_tokens(settings) if "jwt" in self._ways else None
        self._app_check = (
            AppCheck(KeySet(settings.app_check_jwks_url), settings.firebase_project)
            if settings.app_check != "off"
            else None
        )
        self._good_before: set[str] = set()

    def identify(self, request: Request) -> Caller:
        """Who sends this request; a user key is still to be checked. Raises KeyRejected."""
        self._check_app(request)
        key = credential(request)
        if self._ways == {"open"} or (not key and "open" in self._ways):
            return Caller(ANONYMOUS)
        if not key:
            raise KeyMissing("A key is needed: Authorization: Bearer <key>.")
        return self._read(key)

    def check(self, caller: Caller) -> None:
        """Ask Redis about the key. Raises KeyRejected."""
        self._users.check(caller)
        if len(self._good_before) >= _MAX_REMEMBERED:
            self._good_before.clear()
        self._good_before.add(caller.key_hash)

    def was_good(self, caller: Caller) -> bool:
        """Whether this key was good when it was last seen here.

        Then it is left to the script that begins a turn to check it, in the same round trip; a
        stranger's is checked before its request's body is looked at.
        """
        return not caller.key_hash or caller.key_hash in self._good_before

    def check_admin(self, request: Request) -> None:
        """Raises KeyRejected, or NotAllowed for a user's key."""
        given = [credential(request), request.args.get("admin_key", "")]
        if any(same(key, self._admin_key) for key in [*given, _key_in(request.get_data())]):
            return
        if given[0] and self._is_user(given[0]):
            raise NotAllowed("This needs the admin key.", param="Authorization")
        raise KeyRejected("Invalid admin key", param="admin_key")

    def _is_user(self, key: str) -> bool:
        try:
            self._users.check(self._read(key))
        except KeyRejected:
            return False
        return True

    def _read(self, key: str) -> Caller:
        caller = find_caller(key)
        if caller and "keys" in self._ways:
            return caller
        if self._id_tokens and key.count(".") == 2:
            return Caller(owner_of(self._id_tokens.verify(key)))
        raise KeyRejected("This key is not valid.")

    def _check_app(self, request: Request) -> None:
        if self._app_check is None:
            return
        token = header(request, _APP_CHECK, "")
        if token:
            self._app_check.verify(token)
        elif self._app_check_required:
            raise KeyMissing(f"{_APP_CHECK} is missing.", param=_APP_CHECK)


def credential(request: Request) -> str:
    """What stands in Authorization, with `Bearer` before it or not."""
    text = header(request, "Authorization", "").strip()
    scheme, _, key = text.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else text


def _key_in(body: bytes) -> str:
    """The `admin_key` of a body; whatever is wrong with it is said once the key is right."""
    try:
        fields = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    key = fields.get("admin_key") if isinstance(fields, dict) else None
    return key if isinstance(key, str) else ""


def _id_tokens(settings: Settings) -> IdTokens:
    project = settings.firebase_project
    return IdTokens(
        KeySet(settings.jwt_jwks_url or _FIREBASE_KEYS),
        settings.jwt_issuer or f"{_FIREBASE_ISSUER}{project}",
        settings.jwt_audience or project,
        firebase=bool(project),
    )
