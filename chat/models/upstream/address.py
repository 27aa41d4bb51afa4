"""A base URL taken apart: where to connect, what to ask for, and what may be wrong with it. Pure."""

import re
from urllib.parse import parse_qsl, urljoin, urlsplit

import msgspec

_ENDPOINT = "/chat/completions"
_PORTS = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True):
    """`authority` is the value of Host, `path` that of the request line."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @property
    def has_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the base URL, e.g. Azure's `api-version`."""
        return dict(parse_qsl(urlsplit(self.path).query))

    @property
    def base_url(self) -> str:
        """The base URL without its query."""
        path = urlsplit(self.path).path.removesuffix(_ENDPOINT)
        return f"{self.scheme}://{self.authority}{path}"

    def redirect(self, location: str) -> str | None:
        """The path of a redirect on the same origin; None for another origin."""
        there = urlsplit(urljoin(f"{self.scheme}://{self.authority}{self.path}", location))
        try:
            port = there.port or _PORTS.get(there.scheme)
        except ValueError:
            return None
        if (there.scheme, there.hostname, port) != (self.scheme, self.host, self.port):
            return None
        path = f"{there.path or '/'}?{there.query}" if there.query else there.path or "/"
        return path if re.fullmatch(r"[!-~]+", path) else None

    @property
    def hint(self) -> str:
        """What may be wrong with the base URL when nothing is found there; "" if nothing seems so."""
        path = urlsplit(self.path).path.removesuffix(_ENDPOINT)
        if path.endswith(_ENDPOINT):
            return f"OPENAI_BASE_URL must end before {_ENDPOINT}"
        if not re.search(r"/v\d|/openai|/api", path):
            return "OPENAI_BASE_URL may lack /v1 at its end"
        return ""


def read_address(base_url: str) -> Address:
    """Raises ValueError, also (as UnicodeError) for a host name that cannot be."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    port = url.port or _PORTS[url.scheme]
    name = f"[{host}]" if ":" in host else host
    authority = name if port == _PORTS[url.scheme] else f"{name}:{port}"
    path = f"{url.path.rstrip('/')}{_ENDPOINT}"
    return Address(url.scheme, host, port, authority, f"{path}?{url.query}" if url.query else path)


def skips_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names this host: itself, a domain above it, or `*`; perhaps with a port."""
    for entry in no_proxy.lower().split(","):
        name, _, wanted_port = entry.strip().rpartition(":")
        if not name or not wanted_port.isdigit():
            name, wanted_port = entry.strip(), ""
        name = name.removeprefix("*").strip("[]").removeprefix(".")
        if wanted_port not in ("", str(port)):
            continue
        if entry.strip() == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
    return False
