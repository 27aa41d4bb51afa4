"""The keys that tokens are signed with: a key set (JWKS, RFC 7517), fetched from its issuer.

The set is cached and read without a lock; it is fetched again when it has expired or a token names
an unknown key. While the server of the keys is down, slow or broken, tokens signed with a known key
are still accepted. PyJWT and urllib3 are imported by the first fetch, for the cold start.
"""

import json
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from chat.core.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from jwt import PyJWK

_MAX_SET_BYTES = 1024 * 1024
_MAX_AGE_SECONDS = 24 * 3600.0
_DEFAULT_AGE_SECONDS = 300.0
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
log = logging.getLogger("chatkeep")


class KeySet:
    """The keys an issuer signs with (RFC 7517), fetched when a token first needs them.

    Fetched at most every `pause_seconds`, or every `retry_seconds` while there are no keys at all.
    No request waits for it longer than `timeout_seconds`, and no more than `max_waiting` at once.
    """

    def __init__(
        self,
        url: str,
        *,
        pause_seconds: float = 60.0,
        retry_seconds: float = 5.0,
        timeout_seconds: float = 5.0,
        max_waiting: int = 64,
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
        self._may_wait = threading.Semaphore(max_waiting)

    def find(self, kid: str) -> "PyJWK | None":
        """The key with this id, or None. Raises UpstreamUnavailable."""
        keys = self._keys
        if keys is not None and kid in keys and time.monotonic() < self._fresh_until:
            return keys[kid]
        fetcher = self._fetcher_to_wait_for()
        if fetcher is not None and self._may_wait.acquire(blocking=False):
            try:
                fetcher.join(self._timeout_seconds)
            finally:
                self._may_wait.release()
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
