"""A streamed answer on its way out: by the server, piece by piece, or by the relay, over the socket.

gunicorn has no word for "I will answer this one myself". So its descriptor is made to stand for a
socket that goes nowhere, and ours for the client's: whatever the server still writes, shuts down
and closes, the client does not notice.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from typing import Any

from flask import Response

from chat.events import Event
from chat.reader import Reader
from chat.relay import Relay
from chat.run import Run


class EventStream:
    """A turn's events as bytes for the web server, which calls `close` whatever happens.

    A class and not a generator: closing a generator that was never started runs none of it,
    and then the turn of a client that left at once would never come to its end.
    """

    def __init__(
        self, turn: Run | Reader, first: list[Event], write: Callable[[Event], bytes]
    ) -> None:
        self.turn = turn
        self._write = write
        self._waiting: list[Event] = [turn.started, *first]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while True:
            # An empty piece would end the answer: to HTTP it is the last chunk.
            if piece := self.write():
                return piece
            if self.turn.ended:
                raise StopIteration
            self._waiting = self.turn.step()

    def write(self, events: Iterable[Event] = ()) -> bytes:
        """What waits to be written, and these."""
        waiting, self._waiting = self._waiting, []
        return b"".join(map(self._write, [*waiting, *events]))

    def close(self) -> None:
        self.turn.close()


class CarriedResponse(Response):
    """A streamed answer that the relay carries, when the client's socket can be had."""

    def __init__(
        self, relay: Relay, run: Run, stream: EventStream, status: int, headers: Any
    ) -> None:
        super().__init__(stream, status, headers)
        self._relay, self._run, self._stream = relay, run, stream

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        client = take_socket(environ)
        if client is None:
            return super().__call__(environ, start_response)
        start_response(self.status, [])  # the server insists; what it writes goes nowhere
        protocol, headers = environ["SERVER_PROTOCOL"], self.get_wsgi_headers(environ)
        wire = _Wire(self._run, self._stream, self.close)
        wire.open(protocol, self.status, headers)
        self._relay.carry(wire, client)
        return self._relay.stay()


class _Wire:
    """An answer as it goes over the socket: its head, its pieces, its end."""

    def __init__(self, run: Run, stream: EventStream, close: Callable[[], None]) -> None:
        self.fileno = run.fileno
        self.close = close
        self._run = run
        self._stream = stream

    def open(self, protocol: str, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """Have the head go out first; a client of HTTP/1.0 knows no chunks."""
        self._chunked = protocol != "HTTP/1.0"
        lines = [f"{protocol} {status}", "Server: gunicorn", f"Date: {formatdate(usegmt=True)}"]
        lines += ["Connection: close", *(f"{name}: {value}" for name, value in headers)]
        if self._chunked:
            lines.append("Transfer-Encoding: chunked")
        self._head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")

    @property
    def ended(self) -> bool:
        return self._run.ended is not None

    def hear(self) -> bytes:
        return self._frame(self._stream.write(self._run.hear()))

    def work(self) -> bytes:
        return self._frame(self._stream.write(self._run.step()))

    def _frame(self, piece: bytes) -> bytes:
        head, self._head = self._head, b""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            if self.ended:
                piece += b"0\r\n\r\n"
        return head + piece if head else piece


def take_socket(environ: Any) -> socket.socket | None:
    """The client's socket, out of the server's hands; None where the server keeps it."""
    theirs = environ.get("gunicorn.socket")
    if type(theirs) is not socket.socket or environ["REQUEST_METHOD"] == "HEAD":
        return None
    try:
        ours, nowhere = theirs.dup(), socket.socket()
    except OSError:  # no more descriptors
        return None
    with nowhere:
        os.dup2(nowhere.fileno(), theirs.fileno(), inheritable=False)
    ours.setblocking(False)
    return ours
