"""The answer to one request while its turn goes on, in any dialect, streamed or not.

It turns a flow of events into a flow of bytes. First it gathers events, until it is clear how to answer:
then it has a `head`, and writes the body. When it was given the client's socket (`use_socket`) it also
writes the head and frames the body (RFC 9112); else the server does.
"""

from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Literal

import msgspec
from werkzeug.datastructures import Headers

from chat.core.cursors import mark_of
from chat.core.errors import ChatkeepError, NotFound
from chat.core.events import Event, Started
from chat.core.messages import ChatRef, TurnRef, find_ref, read_answer
from chat.core.messages import etag as write_etag
from chat.host.flow import Wait, pump, run_to_end
from chat.turns.producer import Producer
from chat.turns.reader import NOTHING_LEFT, Reader
from chat.turns.waiting import Waiting
from chat.web.access_log import RequestEntry
from chat.web.dialects import Dialect
from chat.web.routes import JSON

_STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
Turn = Producer | Reader | Waiting


class Head(msgspec.Struct, frozen=True):
    """The status and the headers."""

    status: int
    headers: dict[str, str]


class RequestContext(msgspec.Struct, frozen=True):
    """What an answer needs to know of its request; by then the request itself may be over."""

    entry: RequestEntry
    dialect: Dialect
    stream: bool
    keepalive_seconds: float
    began_at: float = msgspec.field(default_factory=monotonic)
    begin: Callable[[], Turn] | None = None  # again, when the turn it repeats left nothing
    on_stored: Callable[[str, bytes], None] | None = None  # with the chat's mark, the message
    accept: Callable[[Started], object] | None = None  # the answer at once; the turn goes on
    on_joined: Callable[[ChatRef, TurnRef], None] | None = None  # another request's turn, delivered


def _ignore() -> None:
    pass


def _never() -> bool:
    return False


class TurnResponse:
    """A Source: the relay drives it where it has the client's socket, else `pump` does."""

    def __init__(self, context: RequestContext, turn: Turn) -> None:
        self.ended = False
        self.head: Head | None = None
        self._context = context
        self._events: list[Event] = []  # before there is a head
        self._may_begin = context.begin is not None
        self.wake: Callable[[], object] = _ignore  # how another thread says that there is work
        self.client_left: Callable[[], bool] = _never
        self._framing: Literal["server", "chunked", "close"] = "server"
        self._protocol, self._common_headers = "", Headers()
        self._set_turn(turn)

    def _set_turn(self, turn: Turn) -> None:
        self._turn = turn
        self.needs_client, self.max_backlog = turn.needs_client, turn.max_backlog
        self._head_due_at = monotonic() + self._context.keepalive_seconds
        if isinstance(turn, Waiting):
            turn.wake = self._wake
            return
        self._write_event = partial(self._context.dialect.write_event, mark_of(turn.ref).encode())
        if isinstance(turn, Producer):
            turn.client_left = self._has_no_client
            self._context.entry.chat = turn.chat.id
            self._context.entry.turn = turn.ref.turn_id
            self._reported = False

    def _has_no_client(self) -> bool:
        return self.client_left()

    def _wake(self) -> None:
        self.wake()

    def drive_for(self, seconds: float) -> None:
        """Drive the turn for a moment, before it is known who answers."""
        for events in pump(self._turn, until=monotonic() + seconds):
            self._events += events
        self._report_end()

    def use_socket(self, protocol: str, headers: Headers) -> None:
        """From now on write the head as well, for a client of this protocol, with these headers."""
        # A client of HTTP/1.0 knows no chunks: its stream ends with the connection.
        self._framing = "close" if protocol == "HTTP/1.0" else "chunked"
        self._protocol, self._common_headers = protocol, headers

    def waits_for(self) -> Wait:
        return self._turn.waits_for()

    def on_readable(self) -> bytes:
        return self._write(self._turn.on_readable())

    def work(self) -> bytes:
        events = [] if self._turn.ended else self._turn.work()
        if isinstance(self._turn, Waiting) and self._turn.turn:
            self._set_turn(self._turn.turn)
        if isinstance(self._turn, Reader) and self._turn.ended and not self.client_left():
            self._note_delivery(self._turn)
        self._report_end()
        return self._write(events)

    def _note_delivery(self, reader: Reader) -> None:
        # Should it fail, the same request will get the same answer once more.
        with suppress(ChatkeepError):
            if self._context.on_joined:
                self._context.on_joined(reader.chat, reader.ref)

    def finish(self) -> None:
        """Drive a turn to its end without a client, so that it is stored; all others just leave."""
        try:
            self._finish()
        finally:
            # They lead back to this: without the cycles, a message is freed now, not by the collector.
            self.wake, self.client_left = _ignore, _never
            if isinstance(self._turn, Waiting):
                self._turn.wake = _ignore
            elif isinstance(self._turn, Producer):
                self._turn.client_left = _never

    def _finish(self) -> None:
        turn, context = self._turn, self._context
        if not isinstance(turn, Producer):
            turn.leave()
            return
        run_to_end(turn)
        self._report_end()
        assert turn.ended
        if turn.ended.message and context.on_stored:
            context.on_stored(turn.chat_mark, bytes(turn.ended.message))

    def _report_end(self) -> None:
        """Once: how a turn ended that this instance drives."""
        turn = self._turn
        if turn.ended and isinstance(turn, Producer) and not self._reported:
            self._reported = True
            self._context.entry.end_turn(turn.report)

    def _write(self, events: list[Event]) -> bytes:
        if self._context.accept and not (isinstance(self._turn, Waiting) or self._is_refused):
            return self._accept(self._context.accept, self._turn.started)
        if self.head:
            return self._frame(b"".join(map(self._write_event, events)))
        self._events += events
        # A stream begins in time for its first keep-alive.
        can_begin = self._turn.answering or monotonic() >= self._head_due_at
        if self._turn.ended or (
            self._context.stream and can_begin and not isinstance(self._turn, Waiting)
        ):
            return self._begin()
        return b""

    @property
    def _is_refused(self) -> bool:
        return self.head is None and self._turn.error is not None

    def _accept(self, accept: Callable[[Started], object], started: Started) -> bytes:
        """Answer at once, and go on for nobody until the turn is stored."""
        head, body = self.head, b""
        if head is None:
            body = msgspec.json.encode(accept(started))
            length = {"Content-Length": str(len(body))}
            own = length if self._framing == "server" else {}
            body = self._begin_whole(Head(200, {"Content-Type": JSON} | own), body)
        self.ended = self._turn.ended is not None
        return body

    def _begin(self) -> bytes:
        """The head, if the server does not write it, and the beginning of the body."""
        turn, context = self._turn, self._context
        try:
            if turn.error:
                raise turn.error
            assert not isinstance(turn, Waiting)  # it ends with an error, or as another one
            if context.stream:
                return self._begin_stream(turn)
            if turn.ended and turn.ended.message:
                head, body = write_stored(
                    context.dialect, bytes(turn.ended.message), turn.chat_mark
                )
                return self._begin_whole(
                    Head(head.status, head.headers | self._turn_headers()), body
                )
            if not (self._may_begin and context.begin):
                raise NotFound(NOTHING_LEFT, code="turn_not_found")
            # The turn that this one repeats left nothing. Whether the message is to run again is not
            # for us to say; and what is answered to that is the end of it.
            self._may_begin = False
            self.finish()  # a reader leaves
            self._set_turn(context.begin())
            return b""
        except ChatkeepError as problem:
            error = context.dialect.translate(problem)
            if not context.entry.report:
                context.entry.fail(error.code)
            body = msgspec.json.encode(context.dialect.write_error(error))
            return self._begin_whole(
                Head(error.status, {"Content-Type": JSON} | error.headers), body
            )

    def _begin_stream(self, turn: Producer | Reader) -> bytes:
        dialect = self._context.dialect
        headers = _STREAM_HEADERS | {"Content-Type": dialect.stream_type} | self._turn_headers()
        self._open(Head(dialect.answer_status, headers))
        chunked = {"Transfer-Encoding": "chunked"} if self._framing == "chunked" else {}
        events = [*turn.opening, *self._events]
        return self._head_bytes(chunked) + self._frame(b"".join(map(self._write_event, events)))

    def _begin_whole(self, head: Head, body: bytes) -> bytes:
        self._open(head)
        self.ended = True
        return self._head_bytes({"Content-Length": str(len(body))}) + body

    def _open(self, head: Head) -> None:
        self.head = head
        self._context.entry.status = head.status

    def _frame(self, piece: bytes) -> bytes:
        self.ended = self._turn.ended is not None
        if self._framing != "chunked":
            return piece
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return chunk + b"0\r\n\r\n" if self.ended else chunk

    def _head_bytes(self, framing: dict[str, str]) -> bytes:
        if self._framing == "server":
            return b""
        assert self.head
        own = {"Server": "gunicorn", "Date": formatdate(usegmt=True), "Connection": "close"}
        headers = Headers([*(own | framing | self.head.headers).items()])
        headers.extend([pair for pair in self._common_headers if pair[0] not in headers])
        status = f"{self._protocol} {self.head.status} {HTTPStatus(self.head.status).phrase}"
        lines = [status, *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")

    def _turn_headers(self) -> dict[str, str]:
        """The rate limit, and what took how long, of a turn that this instance drives."""
        if not isinstance(self._turn, Producer):
            return {}
        timing = _server_timing(self._turn, self._context)
        return {"Server-Timing": timing} | self._turn.rate_status.headers()


def write_stored(dialect: Dialect, message: bytes, mark: str) -> tuple[Head, bytes]:
    """The answer with a stored message, and with the ETag that its chat, with this mark, had then."""
    found = read_answer(message)
    ref = find_ref(found.id)
    etag = {"ETag": f'"{write_etag(mark, ref.index + 1)}"'} if ref and mark else {}
    body = msgspec.json.encode(dialect.write_answer(found))
    return Head(dialect.answer_status, {"Content-Type": JSON} | etag), body


def _server_timing(turn: Producer, context: RequestContext) -> str:
    """What took how many milliseconds; of a stream, until its first byte."""
    auth_seconds = context.entry.auth_seconds
    spans = {
        "auth": auth_seconds,
        "store": turn.times.store_seconds,
        "upstream": turn.times.upstream_seconds,
        "total": auth_seconds + monotonic() - context.began_at,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in spans.items())
