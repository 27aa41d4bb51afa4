"""Verifies ID tokens of any OpenID Connect issuer, and Firebase App Check tokens.

Both are JWTs, signed with a key that the issuer publishes in a key set (JWKS). The set is cached
and read without a lock; it is fetched again when it has expired or a token names an unknown key.
While the server of the keys is down, slow or broken, tokens signed with a known key are still
accepted. PyJWT, cryptography and urllib3 are imported with the first token, for the cold start.
"""

import base64
import json
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chat.core.errors import KeyRejected, UpstreamUnavailable

if TYPE_CHECKING:
    from jwt import PyJWK
    from jwt.types import Options

LEEWAY_SECONDS = 60
_MAX_TOKEN_BYTES = 8192
_MAX_SUBJECT = 128
_MAX_SET_BYTES = 1024 * 1024
_MAX_AGE_SECONDS = 24 * 3600.0
_DEFAULT_AGE_SECONDS = 300.0
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
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
log = logging.getLogger("chatkeep")


class KeySet:
    """The keys an issuer signs with (RFC 7517), fetched when a token first needs them.

    Fetched at most every `pause_seconds`, or every `retry_seconds` while there are no keys at all.
    No request waits for it longer than `timeout_seconds`.
    """

    def __init__(
        self,
        url: str,
        *,
        pause_seconds: float = 60.0,
        retry_seconds: float = 5.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._url = url
        self._pause_seconds = pause_seconds
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._keys: dict[str, PyJWK] | None = None
        self._fresh_until = 0.0
        self._next_fetch = 0.0
        self._fetcher: threading.Thread | None = None
        self._lock = threading.Lock()

    def find(self, kid: str) -> "PyJWK | None":
        """The key with this id, or None. Raises UpstreamUnavailable."""
        keys = self._keys
        if keys is not None and kid in keys and time.monotonic() < self._fresh_until:
            return keys[kid]
        fetcher = self._fetcher_to_wait_for()
        if fetcher is not None:
            fetcher.join(self._timeout_seconds)
        if self._keys is None:
            raise UpstreamUnavailable(
                "The sign-in service's keys cannot be fetched.", retry_after=5
            )
        return self._keys.get(kid)

    def _fetcher_to_wait_for(self) -> threading.Thread | None:
        """Start a fetch if one is due; wait for a running one only while there are no keys."""
        with self._lock:
            if self._fetcher is not None and self._fetcher.is_alive():
                return self._fetcher if self._keys is None else None
            now = time.monotonic()
            if now < self._next_fetch:
                return None
            pause = self._retry_seconds if self._keys is None else self._pause_seconds
            self._next_fetch = now + pause
            # In a thread: urllib3's time-out does not cover DNS, nor one address after another.
            self._fetcher = threading.Thread(target=self._fetch, name="key-set", daemon=True)
            self._fetcher.start()
            return self._fetcher

    def _fetch(self) -> None:
        try:
            document, age = _download(self._url, self._timeout_seconds)
            keys = _read_set(document)
        except (OSError, ValueError, RecursionError) as error:
            log.warning("cannot fetch the sign-in keys at %s: %s", self._url, error)
            return
        if not keys:
            log.warning("none of the sign-in keys at %s is usable", self._url)
        age = min(max(age, self._pause_seconds), _MAX_AGE_SECONDS)
        self._fresh_until = time.monotonic() + age
        self._keys = keys


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


def _download(url: str, timeout_seconds: float) -> tuple[bytes, float]:
    """The document at `url`, and its max-age in seconds (RFC 9111, section 5.2.2.1)."""
    import urllib3

    try:
        with (
            urllib3.PoolManager() as pool,
            pool.request(
                "GET",
                url,
                timeout=timeout_seconds,
                retries=False,
                preload_content=False,
                decode_content=False,
            ) as response,
        ):
            document = response.read(_MAX_SET_BYTES + 1)
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from error
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    if len(document) > _MAX_SET_BYTES:
        raise ValueError("the key set is too large")
    max_age = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
    return document, float(max_age[1]) if max_age else _DEFAULT_AGE_SECONDS


def _read_set(document: bytes) -> "dict[str, PyJWK]":
    """The usable keys by their ids; others are ignored (RFC 7517, section 5)."""
    found = json.loads(document)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the document is not a key set")
    keys: dict[str, PyJWK] = {}
    for jwk in listed:
        key = _read_key(jwk) if isinstance(jwk, dict) else None
        if key is not None:
            keys.setdefault(jwk["kid"], key)
    return keys


def _read_key(jwk: dict[str, Any]) -> "PyJWK | None":
    """The key, if it is a public signing key with an id and an accepted algorithm, else None."""
    from jwt import PyJWK

    algorithm = _algorithm_of(jwk)
    kid = jwk.get("kid")
    # "d": a private key, published by mistake; anybody could sign with it.
    if not algorithm or not isinstance(kid, str) or "d" in jwk:
        return None
    try:
        key = PyJWK(jwk, algorithm)
    except Exception:  # PyJWT and cryptography raise many types for a malformed key: skip it
        return None
    small = algorithm == "RS256" and key.key.key_size < _MIN_RSA_BITS
    return None if small else key


def _algorithm_of(jwk: dict[str, Any]) -> str | None:
    """The algorithm for this key, or None if its use or `alg` is another."""
    if jwk.get("kty") == "RSA":
        algorithm = "RS256"
    elif jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
        algorithm = "ES256"
    else:
        return None
    fits = jwk.get("alg", algorithm) == algorithm and jwk.get("use", "sig") == "sig"
    return algorithm if fits else None
