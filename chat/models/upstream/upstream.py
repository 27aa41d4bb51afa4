"""One provider of models: its address, its headers, and what is known of its models."""

import re
from collections.abc import Mapping

from chat.core.completions import ChatRequest
from chat.core.errors import too_large_at_once
from chat.core.http1 import encode_post
from chat.core.quirks import Quirks, first_quirks, is_azure
from chat.host.gate import Room
from chat.models.upstream.address import read_address
from chat.models.upstream.call import Call
from chat.models.upstream.connections import Connections
from chat.models.upstream.google import GoogleTokens
from chat.settings import VERSION

_MAX_REMEMBERED = 1000
_MAX_REQUESTS_BYTES = 64 * 1024 * 1024  # of all that no answer has begun to
_SECRET_NAMES = re.compile(r"key|token|auth|secret|cookie|config|password", re.IGNORECASE)
_GOOGLE = ".googleapis.com"


class Upstream:
    """Where a model API is; calls of it share their connections.

    `headers` are sent besides ours, and instead of ours of the same name. Without a key, Google's
    own APIs get a token of the metadata server at `metadata_host`.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        silence_seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        proxy: str = "",
        metadata_host: str = "",
    ) -> None:
        self.address = address = read_address(base_url)
        self.silence_seconds = silence_seconds
        self.connections = Connections(address, proxy)
        self.room = Room(_MAX_REQUESTS_BYTES, too_large_at_once)
        own = headers or {}
        self.secrets = (key, *(own[name] for name in own if _SECRET_NAMES.search(name)))
        self._headers = _merge(_headers(key, is_azure(address.host)), own)
        uses_tokens = metadata_host and not key and address.host.endswith(_GOOGLE)
        self._tokens = GoogleTokens(metadata_host) if uses_tokens else None
        self._first_quirks = first_quirks(address.host)
        self._quirks: dict[str, Quirks] = {}

    def call(self, request: ChatRequest) -> Call:
        """A call of /chat/completions; nothing is sent before its first `work`."""
        return Call(self, request)

    def quirks_of(self, model: str) -> Quirks:
        return self._quirks.get(model, self._first_quirks)

    def remember(self, model: str, quirks: Quirks) -> None:
        """A request written like this was answered."""
        if len(self._quirks) < _MAX_REMEMBERED:  # clients may name any model
            self._quirks[model] = quirks

    def encode(self, path: str, body: bytes) -> bytes:
        """A whole request; takes time when a new token is needed. Raises OSError."""
        return encode_post(path, self.address.authority, self.headers(), body)

    def headers(self) -> dict[str, str]:
        """As `encode`, which sends them."""
        if not self._tokens:
            return self._headers
        return _merge({"Authorization": f"Bearer {self._tokens.get()}"}, self._headers)

    def reject_key(self) -> None:
        """The model API did not accept our key or token."""
        if self._tokens:
            self._tokens.forget()


def _headers(key: str, azure: bool) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"chatkeep/{VERSION}",
    }
    if key and azure:
        headers["api-key"] = key
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _merge(headers: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    replaced = {name.lower() for name in own}
    return {n: v for n, v in headers.items() if n.lower() not in replaced} | dict(own)
