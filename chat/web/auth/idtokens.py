"""Verifies ID tokens of any OpenID Connect issuer, and Firebase App Check tokens.

Both are JWTs, signed with a key of their issuer's key set (jwks.py). PyJWT and cryptography are
imported with the first token, for the cold start.
"""

import base64
import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chat.core.errors import KeyRejected
from chat.web.auth.jwks import KeySet

if TYPE_CHECKING:
    from jwt import PyJWK
    from jwt.types import Options

LEEWAY_SECONDS = 60
_MAX_TOKEN_BYTES = 8192
_MAX_SUBJECT = 128
# JSON can express a lone surrogate; UTF-8 cannot.
_NOT_IN_A_SUBJECT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_APP_CHECK_ISSUER = "https://firebaseappcheck.googleapis.com/"
_UNREADABLE = "cannot be read"
_BAD_ALGORITHM = "is signed with an algorithm that is not accepted"
_ELSEWHERE = "is not meant for this service"
_UNTRUSTED = "comes from an issuer that is not trusted"
_NOT_YET = "is not valid yet"
_REASONS = {  # by PyJWT's exception
    "ExpiredSignatureError": "has expired",
    "ImmatureSignatureError": _NOT_YET,
    "InvalidAlgorithmError": _BAD_ALGORITHM,
    "InvalidAudienceError": _ELSEWHERE,
    "InvalidIssuerError": _UNTRUSTED,
    "InvalidSignatureError": "has an invalid signature",
    "MissingRequiredClaimError": "lacks a required claim",
}


class IdTokens:
    """ID tokens of one issuer for one audience (OpenID Connect Core 1.0, section 2; RFC 7519)."""

    def __init__(self, key_set: KeySet, issuer: str, audience: str, firebase: bool) -> None:
        self._key_set = key_set
        self._issuer = issuer
        self._audience = audience
        self._firebase = firebase

    def verify(self, token: str) -> str:
        """The subject of the token (`sub`). Raises KeyRejected and UpstreamUnavailable.

        The `auth_time` of a Firebase token must be in the past as well:
        https://firebase.google.com/docs/auth/admin/verify-id-tokens
        """
        claims = _open(_ID_TOKEN, self._key_set, token, self._audience, self._issuer)["payload"]
        if self._firebase and not _is_past(claims.get("auth_time", 0)):
            raise _refusal(_ID_TOKEN, _NOT_YET)
        return _subject(_ID_TOKEN, claims)


class AppCheck:
    """App Check tokens for one Firebase project, given by its number or its id."""

    def __init__(self, key_set: KeySet, project: str) -> None:
        self._key_set = key_set
        self._audience = f"projects/{project}"

    def verify(self, token: str) -> str:
        """The id of the calling app (`sub`). Raises KeyRejected and UpstreamUnavailable.

        https://firebase.google.com/docs/app-check/custom-resource-backend
        """
        opened = _open(_APP_CHECK, self._key_set, token, self._audience)
        claims = opened["payload"]
        if opened["header"].get("typ") != "JWT":
            raise _refusal(_APP_CHECK, _UNREADABLE)
        if not str(claims.get("iss")).startswith(_APP_CHECK_ISSUER):
            raise _refusal(_APP_CHECK, _UNTRUSTED)
        if not isinstance(claims["aud"], list):
            raise _refusal(_APP_CHECK, _ELSEWHERE)
        return _subject(_APP_CHECK, claims)


class _Kind(NamedTuple):
    """A kind of token: its name in messages, its header, its algorithms and required claims."""

    name: str
    param: str
    algorithms: tuple[str, ...]
    options: "Options"


_ID_TOKEN = _Kind(
    "sign-in token",
    "Authorization",
    ("RS256", "ES256"),
    {"require": ["exp", "iat"], "verify_sub": False, "verify_jti": False},
)
_APP_CHECK = _Kind(
    "App Check token",
    "X-Firebase-AppCheck",
    ("RS256",),
    {"require": ["exp"], "verify_sub": False, "verify_jti": False},
)


def _open(
    kind: _Kind, key_set: KeySet, token: str, audience: str, issuer: str | None = None
) -> dict[str, Any]:
    """The header and the claims, with signature, times, issuer and audience verified."""
    import jwt

    key = _find_key(kind, key_set, _read_header(kind, token))
    try:
        # A PyJWK is bound to one algorithm: a header that names another is refused.
        return jwt.decode_complete(
            token,
            key,
            kind.algorithms,
            kind.options,
            audience=audience,
            issuer=issuer,
            leeway=LEEWAY_SECONDS,
        )
    except jwt.PyJWTError as error:
        raise _refusal(kind, _REASONS.get(type(error).__name__, _UNREADABLE)) from None


def _read_header(kind: _Kind, token: str) -> dict[str, Any]:
    """The token's header, not verified yet (RFC 7515, section 4)."""
    if len(token) > _MAX_TOKEN_BYTES:
        raise _refusal(kind, "is too long")
    try:
        first, _, _ = token.encode("ascii").partition(b".")
        header = json.loads(base64.urlsafe_b64decode(first + b"=="))
    except (ValueError, RecursionError):
        raise _refusal(kind, _UNREADABLE) from None
    if not isinstance(header, dict):
        raise _refusal(kind, _UNREADABLE)
    return header


def _find_key(kind: _Kind, key_set: KeySet, header: dict[str, Any]) -> "PyJWK":
    if header.get("alg") not in kind.algorithms:
        raise _refusal(kind, _BAD_ALGORITHM)
    kid = header.get("kid")
    # Required even while the issuer has a single key: tomorrow it may have two.
    if not isinstance(kid, str) or not kid:
        raise _refusal(kind, "does not name its signing key (`kid`)")
    key = key_set.find(kid)
    if key is None:
        raise _refusal(kind, "is signed by an unknown key")
    return key


def _subject(kind: _Kind, claims: dict[str, Any]) -> str:
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= _MAX_SUBJECT:
        raise _refusal(kind, "has no valid subject (`sub`)")
    if _NOT_IN_A_SUBJECT.search(sub):
        raise _refusal(kind, "has no valid subject (`sub`)")
    return sub


def _is_past(moment: Any) -> bool:
    number = isinstance(moment, int | float)
    return number and moment <= time.time() + LEEWAY_SECONDS


def _refusal(kind: _Kind, why: str) -> KeyRejected:
    return KeyRejected(f"The {kind.name} {why}.", param=kind.param)
