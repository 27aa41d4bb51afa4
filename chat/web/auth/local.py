"""Requests of this machine itself, which need no key where nothing else is set (AUTH=local).

The peer's address alone does not tell: a proxy or a tunnel on this machine is a peer too, and so is
the browser, for any web page. So the name must be local (DNS rebinding makes a page's own name point
here), there must be no trace of a proxy, and a page must be one of this machine or of CORS_ORIGINS.
"""

import functools
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_OF_A_PROXY = frozenset(
    "HTTP_FORWARDED HTTP_X_FORWARDED HTTP_X_FORWARDED_FOR HTTP_X_FORWARDED_HOST"
    " HTTP_X_FORWARDED_PROTO HTTP_X_FORWARDED_PORT HTTP_X_FORWARDED_SERVER HTTP_X_FORWARDED_SCHEME"
    " HTTP_X_FORWARDED_PREFIX HTTP_X_FORWARDED_SSL HTTP_X_ORIGINAL_FORWARDED_FOR HTTP_X_REAL_IP"
    " HTTP_X_CLIENT_IP HTTP_X_CLUSTER_CLIENT_IP HTTP_TRUE_CLIENT_IP HTTP_CF_CONNECTING_IP"
    " HTTP_FASTLY_CLIENT_IP HTTP_VIA".split()
)


def is_local(environ: Mapping[str, Any]) -> bool:
    """Whether a program of this machine asks, directly and by a local name."""
    return (
        _is_loopback(environ.get("REMOTE_ADDR", ""))
        and _hostname(f"//{environ.get('HTTP_HOST', '')}") in _NAMES
        and _OF_A_PROXY.isdisjoint(environ)
    )


def is_own_page(environ: Mapping[str, Any], origins: frozenset[str]) -> bool:
    """Whether no web page asks, or one of this machine or of `origins`."""
    origin = environ.get("HTTP_ORIGIN")
    return (
        origin is None
        or "*" in origins
        or origin in origins
        or (origin.startswith(("http://", "https://")) and _hostname(origin) in _NAMES)
    )


def _is_loopback(address: str) -> bool:
    if address == "127.0.0.1":
        return True
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


@functools.lru_cache(128)
def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
