"""An answer on its way out: by the server, piece by piece, or by the relay, over the socket.

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

from chat.core.events import Event
from chat.host.relay import Relay, Source
from chat.turns.producer import Producer
from chat.turns.reader import Reader


class EventStream:
    """A turn's events as bytes for the web server, which calls `close` whatever happens.

    A class and not a generator: closing a generator that was never started runs none of it,
    and then the turn of a client that left at once would never come to its end.
    """

    def __init__(
        self, turn: Producer | Reader, first: list[Event], write: Callable[[Event], bytes]
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


class Carried(Response):
    """An answer that the relay gives, over the client's socket."""

    def __init__(self, relay: Relay, client: socket.socket, status: int = 200) -> None:
        super().__init__(status=status)
        self.headers.clear()
        self._relay, self._client = relay, client

    def source(self, protocol: str) -> Source:
        """What flows to the client, who speaks this version of HTTP."""
        raise NotImplementedError

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(self.status, [])  # the server insists; what it writes goes nowhere
        self._relay.carry(self.source(environ["SERVER_PROTOCOL"]), self._client)
        return self._relay.stay()


class Later(Carried):
    """The answer of a turn that has nothing to answer with yet.

    Until then its headers, and what is to be done when it is closed, gather here. `decide` makes
    it of the turn's first events when `is_time`, and takes no time unless that comes with a `step`.
    """

    def __init__(
        self,
        relay: Relay,
        turn: Producer | Reader,
        client: socket.socket,
        is_time: Callable[[], bool],
        decide: Callable[[list[Event]], Response],
    ) -> None:
        super().__init__(relay, client)
        self.turn = turn
        self.is_time = is_time
        self._decide = decide

    def source(self, protocol: str) -> Source:
        return _Wire(self, protocol)

    def decide(self, events: list[Event]) -> Response:
        response = self._decide(events)
        there = {name.lower() for name, _ in response.headers}
        response.headers.extend([pair for pair in self.headers if pair[0].lower() not in there])
        response.call_on_close(self.close)
        return response


class _Wire:
    """An answer as it goes over the socket: a head and a body, or a head, pieces and an end."""

    def __init__(self, later: Later, protocol: str) -> None:
        self.ended = False
        self.needs_client = later.turn.needs_client
        self.most_waiting = later.turn.most_waiting
        self.fileno = later.turn.fileno
        self._turn = later.turn
        self._later = later
        self._protocol = protocol
        self._first: list[Event] = []
        self._response: Response | None = None
        self._stream: EventStream | None = None

    def hear(self) -> bytes:
        return self._write(self._turn.hear())

    def work(self) -> bytes:
        return self._write(self._turn.step())

    def close(self) -> None:
        self._turn.close()
        (self._response or self._later).close()

    def _write(self, events: list[Event]) -> bytes:
        if self._stream:
            return self._frame(self._stream.write(events))
        self._first += events
        return self._begin() if self._later.is_time() else b""

    def _begin(self) -> bytes:
        self._response = response = self._later.decide(self._first)
        if isinstance(response.response, EventStream):
            self._stream = response.response
            return self._write_head(response) + self._frame(self._stream.write())
        self.ended = True
        return self._write_head(response) + response.get_data()

    def _write_head(self, response: Response) -> bytes:
        """A client of HTTP/1.0 knows no chunks: its stream ends with the connection."""
        self._chunked = self._stream is not None and self._protocol != "HTTP/1.0"
        lines = [f"{self._protocol} {response.status}", "Server: gunicorn"]
        lines += [f"Date: {formatdate(usegmt=True)}", "Connection: close"]
        lines += ["Transfer-Encoding: chunked"] if self._chunked else []
        lines += [f"{name}: {value}" for name, value in response.get_wsgi_headers({})]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")

    def _frame(self, piece: bytes) -> bytes:
        self.ended = self._turn.ended is not None
        if not self._chunked:
            return piece
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return chunk + b"0\r\n\r\n" if self.ended else chunk


def take_socket(environ: Any) -> socket.socket | None:
    """The client's socket, out of the server's hands; None where the server keeps it, or it is taken."""
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
    environ["gunicorn.socket"] = None
    return ours
