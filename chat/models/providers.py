"""The model API of the settings, and who is asked when it fails."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from chat.models.upstream import Upstream
from chat.models.upstream.address import read_address, skips_proxy
from chat.settings import Settings
from chat.settings.upstream import read_fallback_keys, read_fallbacks, read_headers


class Alternative(msgspec.Struct, frozen=True):
    """A model at a provider; `provider` is its host, "" for that of OPENAI_BASE_URL."""

    model: str
    provider: str
    upstream: Upstream


class Providers:
    """One upstream for each provider."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        base_url, key = settings.openai_base_url, settings.gpt_api_key
        self.main = self._upstream(base_url, key, read_headers(settings.upstream_headers))
        self._others: dict[str, Upstream] = {}
        self.fallbacks = self._read_fallbacks()

    def alternatives(self, model: str) -> list[Alternative]:
        """The model, and what is asked in its place, in this order."""
        first = Alternative(model, "", self.main)
        others = [other for other in self.fallbacks if (other.model, other.provider) != (model, "")]
        return [first, *others]

    def _read_fallbacks(self) -> list[Alternative]:
        keys = read_fallback_keys(self._settings.fallback_keys)
        found = []
        for fallback in read_fallbacks(self._settings.fallback_models):
            url = fallback.base_url
            if url and url not in self._others:
                self._others[url] = self._upstream(url, keys.get(urlsplit(url).hostname or "", ""))
            upstream = self._others[url] if url else self.main
            provider = upstream.address.host if url else ""
            found.append(Alternative(fallback.model, provider, upstream))
        return found

    def _upstream(
        self, base_url: str, key: str, headers: Mapping[str, str] | None = None
    ) -> Upstream:
        settings, address = self._settings, read_address(base_url)
        direct = not address.has_tls or skips_proxy(address.host, address.port, settings.no_proxy)
        return Upstream(
            base_url,
            key,
            settings.upstream_timeout_seconds,
            headers=headers,
            proxy="" if direct else settings.https_proxy,
            metadata_host=settings.gce_metadata_host,
        )
