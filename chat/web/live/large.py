"""Large answers leave by the relay, so that a client that does not read holds no thread."""

from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http import HTTPStatus

from flask import Request, Response

from chat.host.flow import WORK_WHEN_TAKEN, Wait
from chat.host.relay import Relay
from chat.web.live.handover import HandedOver, take_socket

_LARGE_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024


def hand_over_if_large(relay: Relay, request: Request, response: Response) -> Response:
    """The response, or what the server is given in its place if it is large, or of unknown size."""
    length = response.calculate_content_length() if response.is_sequence else None
    if length is not None and length <= _LARGE_BYTES:
        return response
    client = take_socket(request.environ)
    if client is None:
        return response
    protocol = request.environ["SERVER_PROTOCOL"]
    is_chunked = length is None and protocol != "HTTP/1.0"
    head = _write_head(response, protocol, length, is_chunked)
    body: Iterable[str | bytes] = response.response
    if length is not None:
        body, response.response = _pop_all(list(response.response)), ()
    answer = LargeAnswer(head, body, is_chunked)
    handed_over = HandedOver(relay, answer, client, response.status_code)
    handed_over.call_on_close(response.close)
    return handed_over


def _pop_all(pieces: list[str | bytes]) -> Iterator[str | bytes]:
    """What has been sent need not stay in memory."""
    while pieces:
        yield pieces.pop(0)


class LargeAnswer:
    """A Source: goes on with the body when the client has taken what it was sent."""

    needs_client = True
    max_backlog = 0  # beside the piece that is being sent

    def __init__(self, head: bytes, body: Iterable[str | bytes], is_chunked: bool) -> None:
        self.ended = False
        self._head = head
        self._body = body
        self._pieces = iter(body)
        self._is_chunked = is_chunked

    def waits_for(self) -> Wait:
        return WORK_WHEN_TAKEN

    def on_readable(self) -> bytes:
        return b""

    def work(self) -> bytes:
        head, self._head = self._head, b""
        piece = b"".join(self._take())
        return head + (self._chunk(piece) if self._is_chunked else piece)

    def finish(self) -> None:
        if close := getattr(self._body, "close", None):
            close()
        self._body = self._pieces = iter(())

    def _take(self) -> Iterator[bytes]:
        """What the body has next, as much as makes a piece, unless it ends."""
        size = 0
        while size < _PIECE_BYTES:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
                return
            data = piece.encode() if isinstance(piece, str) else piece
            size += len(data)
            yield data

    def _chunk(self, piece: bytes) -> bytes:
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return chunk + b"0\r\n\r\n" if self.ended else chunk


def _write_head(response: Response, protocol: str, length: int | None, is_chunked: bool) -> bytes:
    headers = response.headers.copy()
    headers.update({"Connection": "close", "Server": "gunicorn", "Date": formatdate(usegmt=True)})
    if is_chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif length is not None:
        headers["Content-Length"] = str(length)
    status = response.status_code
    lines = [f"{protocol} {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")
