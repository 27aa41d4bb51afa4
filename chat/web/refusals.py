"""What is answered in the server's place, before there is a request that routes could answer."""

from http import HTTPStatus

import msgspec

from chat.core.errors import ChatkeepError

_CODES = {
    400: "bad_request",
    408: "request_timeout",
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
