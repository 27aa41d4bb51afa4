"""What is answered in the server's place, before there is a request that routes could answer."""

import io
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from flask import Request

from chat.core.errors import ChatkeepError
from chat.web.routes import Router

_CODES = {
    400: "bad_request",
    408: "request_timeout",
    413: "body_too_large",
    414: "uri_too_long",
    417: "expectation_failed",
    431: "headers_too_large",
    501: "not_implemented",
    503: "overloaded",
}


class _Refusal(ChatkeepError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, code=_CODES.get(status, "bad_request"))
        self.status = status


def write_refusal(origins: frozenset[str], status: int, message: str, origin: str) -> bytes:
    """A whole HTTP/1.1 answer in the one shape of errors, readable by a web app of `origin`."""
    body = msgspec.json.encode(_Refusal(status, message).body())
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += ["Cache-Control: no-store", "X-Content-Type-Options: nosniff"]
    lines += ["Retry-After: 1"] if status == 503 else []
    if "*" in origins:
        lines.append("Access-Control-Allow-Origin: *")
    elif origins:
        lines.append("Vary: Origin")
        lines += [f"Access-Control-Allow-Origin: {origin}"] if origin in origins else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def refuse_by_head(router: Router, head: bytes, peer: str) -> bytes:
    """A whole answer to a request whose body nobody needs to see, or b"".

    `head` is all of a request that has come so far. It may be malformed; then it is the server's to
    refuse.
    """
    try:
        environ = _environ_of(head, peer)
    except ValueError:
        return b""
    response = router.refuse(Request(environ))
    if response is None:
        return b""
    body = response.get_data()
    headers = [*response.headers.items(), ("Connection", "close"), ("Content-Length", len(body))]
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in headers)]
    response.close()
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _environ_of(head: bytes, peer: str) -> dict[str, Any]:
    """What WSGI makes of a head (PEP 3333); raises ValueError."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, protocol = first.split(" ")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": protocol,
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }
    for line in lines:
        name, _, value = line.partition(":")
        if "_" in name:  # as the server does: it would pass for a name with hyphens
            continue
        variable = f"HTTP_{name.upper().replace('-', '_')}"
        value = value.strip()
        environ[variable] = f"{environ[variable]},{value}" if variable in environ else value
    return environ
