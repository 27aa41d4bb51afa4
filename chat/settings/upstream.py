"""The settings of the model API, and of those that are asked when it fails."""

import re
from urllib.parse import urlsplit

import msgspec

from chat.settings.settings import Settings

# What a header can carry (RFC 9110, section 5.5); the framing of a request is ours.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa1-\xff\t]*[\x21-\x7e\xa1-\xff])?")
_KEY = re.compile(r"[\x21-\x7e]*")
_LABEL = re.compile(r"(?!-)[\w:%-]{1,63}(?<!-)", re.ASCII)
_FRAMING = frozenset("host content-length transfer-encoding connection expect upgrade te".split())


class Fallback(msgspec.Struct, frozen=True):
    """A model that is asked when another one fails; `base_url` is "" for the same provider."""

    model: str
    base_url: str = ""


def read_headers(text: str) -> dict[str, str]:
    """UPSTREAM_HEADERS; raises ValueError."""
    try:
        headers = msgspec.json.decode(text, type=dict[str, str]) if text else {}
    except msgspec.MsgspecError:
        raise ValueError("must be a JSON object of names and texts") from None
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
            raise ValueError("has a name that no header of ours can have")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has characters that no header can carry")
    return headers


def read_fallbacks(text: str) -> list[Fallback]:
    """FALLBACK_MODELS; raises ValueError."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        # A model's name may have a `=`, but hardly one before `http`.
        model, url, rest = entry.partition("=http")
        if not model:
            raise ValueError("must be a list of `model` and `model=base URL`")
        if url and not is_url(f"http{rest}"):
            raise ValueError("has a base URL that is none")
        found.append(Fallback(model.strip(), f"http{rest}" if url else ""))
    return found


def read_fallback_keys(text: str) -> dict[str, str]:
    """FALLBACK_KEYS: the keys by host; raises ValueError."""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if not all(host and key and _KEY.fullmatch(key) for host, _, key in pairs):
        raise ValueError("must be a list of host=key")
    return {host.strip().lower(): key for host, _, key in pairs}


def wrong_upstream(settings: Settings) -> list[str]:
    """What is wrong with these settings beyond what can be read of each alone."""
    problems = []
    if settings.https_proxy and not (
        settings.https_proxy.startswith("http://") and is_url(settings.https_proxy)
    ):
        problems.append("HTTPS_PROXY: must be an http:// URL")
    try:
        fallbacks = read_fallbacks(settings.fallback_models)
        unknown = read_fallback_keys(settings.fallback_keys).keys() - _hosts(fallbacks)
    except ValueError:
        return problems
    return problems + [
        f"FALLBACK_KEYS: {host} is not a host in FALLBACK_MODELS" for host in sorted(unknown)
    ]


def _hosts(fallbacks: list[Fallback]) -> set[str]:
    return {urlsplit(fallback.base_url).hostname or "" for fallback in fallbacks}


def is_url(text: str) -> bool:
    """Whether this is an http:// or https:// URL with a host that can be."""
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
        return url.scheme in ("http", "https") and _is_host(host) and url.port != 0
    except ValueError:  # UnicodeError is one
        return False


def _is_host(host: str) -> bool:
    """Labels of 1 to 63 characters (RFC 1123); an IPv6 address counts as one."""
    labels = host.removesuffix(".").split(".")
    return len(host) < 254 and all(_LABEL.fullmatch(label) for label in labels)
