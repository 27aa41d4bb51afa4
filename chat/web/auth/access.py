"""Authentication by user key, ID token, App Check token or admin key."""

import msgspec
from flask import Request

from chat.core.credentials import ANONYMOUS, Caller, find_caller, owner_of, same
from chat.core.errors import KeyMissing, KeyRejected, NotAllowed
from chat.settings import Settings
from chat.store.users import Users
from chat.web.auth.attempts import Attempts
from chat.web.auth.idtokens import AppCheck, IdTokens
from chat.web.auth.jwks import KeySet
from chat.web.auth.local import is_local, is_own_page
from chat.web.headers import header

_APP_CHECK = "X-Firebase-AppCheck"
_FIREBASE_ISSUER = "https://securetoken.google.com/"
_FIREBASE_KEYS = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)
_MAX_REMEMBERED = 10_000
_NOT_LOCAL = (
    "A key is required: this server answers its own machine alone."
    " Set AUTH there to let others in: keys, jwt, or open (anybody)."
)


class Access:
    """Finds the caller of a request by its credentials, or refuses the request."""

    def __init__(self, settings: Settings, users: Users, attempts: Attempts) -> None:
        self._methods = settings.auth_ways
        self._knows_users = settings.knows_users
        self._origins = settings.origins
        self._attempts = attempts
        self._admin_key = settings.admin_key
        self._app_check_required = settings.app_check == "required"
        self._users = users
        self._id_tokens = _id_tokens(settings) if "jwt" in self._methods else None
        self._app_check = (
            AppCheck(_key_set(settings.app_check_jwks_url, settings), settings.firebase_project)
            if settings.app_check != "off"
            else None
        )
        self._known_valid: set[str] = set()

    def identify(self, request: Request) -> Caller:
        """The caller, whose user key is still to be checked. Raises KeyMissing and KeyRejected."""
        self._check_app(request)
        key = credential(request)
        if key and self._knows_users:
            return self._read(key)
        if "open" in self._methods:
            return Caller(ANONYMOUS)
        if "local" not in self._methods:
            raise KeyMissing("A key is required: Authorization: Bearer <key>.")
        if is_local(request.environ) and is_own_page(request.environ, self._origins):
            return Caller(ANONYMOUS)
        raise KeyMissing(_NOT_LOCAL)

    def check(self, caller: Caller) -> None:
        """Look the key up in Redis. Raises KeyRejected."""
        self._users.check(caller)
        if len(self._known_valid) >= _MAX_REMEMBERED:
            self._known_valid.clear()
        self._known_valid.add(caller.key_hash)

    def was_valid(self, caller: Caller) -> bool:
        """Whether this instance has found the key valid before, or none is needed.

        Such a key is checked by the script that begins a turn, in the same round trip; an unknown
        one before the body of its request is parsed.
        """
        return not caller.key_hash or caller.key_hash in self._known_valid

    def check_admin(self, request: Request) -> None:
        """Raises KeyRejected, RateLimited after many wrong keys, or NotAllowed for a user's key."""
        given = [credential(request), request.args.get("admin_key", "")]
        if any(same(key, self._admin_key) for key in given):
            return
        given.append(_key_in(request.get_data()))  # not parsed where the key came otherwise
        if same(given[-1], self._admin_key):
            return
        if any(given):
            self._attempts.spend()
        if given[0] and self._is_user(given[0]):
            raise NotAllowed("The admin key is required.", param="Authorization")
        raise KeyRejected("Invalid admin key", param="admin_key")

    def _is_user(self, key: str) -> bool:
        try:
            self._users.check(self._read(key))
        except KeyRejected:
            return False
        return True

    def _read(self, key: str) -> Caller:
        caller = find_caller(key)
        if caller and "keys" in self._methods:
            return caller
        if self._id_tokens and key.count(".") == 2:
            return Caller(owner_of(self._id_tokens.verify(key)))
        raise KeyRejected("This key is invalid.")

    def _check_app(self, request: Request) -> None:
        if self._app_check is None:
            return
        token = header(request, _APP_CHECK, "")
        if token:
            self._app_check.verify(token)
        elif self._app_check_required:
            raise KeyMissing(f"{_APP_CHECK} is missing.", param=_APP_CHECK)


def credential(request: Request) -> str:
    """The credential in the Authorization header; the scheme `Bearer` is optional."""
    text = header(request, "Authorization", "").strip()
    scheme, _, key = text.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else text


def _key_in(body: bytes) -> str:
    """The `admin_key` of a body, "" when there is none or the body is invalid."""
    try:
        fields = msgspec.json.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    key = fields.get("admin_key") if isinstance(fields, dict) else None
    return key if isinstance(key, str) else ""


def _id_tokens(settings: Settings) -> IdTokens:
    project = settings.firebase_project
    return IdTokens(
        _key_set(settings.jwt_jwks_url or _FIREBASE_KEYS, settings),
        settings.jwt_issuer or f"{_FIREBASE_ISSUER}{project}",
        settings.jwt_audience or project,
        firebase=bool(project),
    )


def _key_set(url: str, settings: Settings) -> KeySet:
    # There are two at most; together they keep no more than half of the threads waiting.
    return KeySet(url, max_waiting=max(1, settings.threads // 4))
