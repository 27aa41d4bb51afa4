"""Tokens for Google's APIs, of the service account that this instance runs as.

Protocol: https://cloud.google.com/compute/docs/metadata. A token lives for an hour.
"""

import threading
import time

import msgspec

_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_SECONDS = 5.0
_RENEW_SECONDS = 240.0  # the metadata server has the next one from five minutes before


class _TokenReply(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float


class GoogleTokens:
    """The newest token; `get` takes time when there is none that lives long enough."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    def get(self) -> str:
        """Raises OSError."""
        with self._lock:
            if time.monotonic() >= self._renew_at:
                reply = self._fetch()
                self._token = reply.access_token
                self._renew_at = time.monotonic() + reply.expires_in - _RENEW_SECONDS
            return self._token

    def forget(self) -> None:
        """The token was refused."""
        self._renew_at = 0.0

    def _fetch(self) -> _TokenReply:
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(self._host, timeout=_SECONDS)
        try:
            connection.request("GET", _PATH, headers={"Metadata-Flavor": "Google"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise OSError(f"the metadata server answered {response.status}")
            return msgspec.json.decode(body, type=_TokenReply)
        except (HTTPException, msgspec.MsgspecError) as problem:
            raise OSError("the metadata server gave no token") from problem
        finally:
            connection.close()
