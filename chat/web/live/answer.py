"""One turn over HTTP, in any dialect: what is asked, how it is answered, streamed or not."""

import time
from collections.abc import Callable

import msgspec
from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.core.errors import ChatkeepError
from chat.core.events import Event
from chat.core.messages import Ask, ChatRef, find_ref, read_answer
from chat.host.relay import Relay
from chat.models.titles import Titles
from chat.turns.producer import Producer
from chat.turns.reader import Reader
from chat.turns.turns import Turns
from chat.web.access_log import RequestEntry, entry_of
from chat.web.dialects import Dialect
from chat.web.headers import header, pause_for, read_if_match, read_repeat
from chat.web.live.handover import EventStream, Later, take_socket
from chat.web.routes import error_response, json_response

_QUICK_SECONDS = 0.25  # an answer that takes longer leaves the request's thread to others
_STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


class Talk:
    """Runs a turn for a request, and answers it."""

    def __init__(
        self, turns: Turns, titles: Titles, keepalive_seconds: float, relay: Relay | None
    ) -> None:
        self._turns = turns
        self._relay = relay
        self._titles = titles
        self.keepalive_seconds = keepalive_seconds

    def say(
        self,
        request: Request,
        caller: Caller,
        dialect: Dialect,
        chat_id: str,
        *,
        must_exist: bool = False,
    ) -> Response:
        """Answer a message that the request brings."""
        began = time.monotonic()
        chat = ChatRef(caller.owner, chat_id)
        ask = dialect.read_request(request.get_data(), header(request, "Accept", ""))
        ask = replace(
            ask,
            repeat=read_repeat(request),
            revision=read_if_match(request),
            must_exist=must_exist,
        )

        def begin() -> Response:
            turn = self._turns.begin(caller, chat, ask, pause_for(request))
            if isinstance(turn, Producer):
                return self._run(request, dialect, turn, chat, ask, began)
            if ask.stream:
                return self.follow(request, dialect, turn)
            return self._repeat(request, dialect, turn, begin)

        return begin()

    def follow(self, request: Request, dialect: Dialect, reader: Reader) -> Response:
        """Answer with the events of a turn that is driven elsewhere."""
        # What there is by now is read here: the relay has to carry only who waits for more.
        first = reader.step() if self._relay else []

        def decide(events: list[Event]) -> Response:
            return self.stream(dialect, reader, [*first, *events])

        return self._hand_over(request, dialect, reader, lambda: True, decide) or decide([])

    def stream(
        self, dialect: Dialect, turn: Producer | Reader, first: list[Event] | None = None
    ) -> Response:
        """Answer with a turn's events, as they come."""
        stream = EventStream(turn, first or [], dialect.write_event)
        headers = _STREAM_HEADERS | {"Content-Type": dialect.stream_type}
        return Response(stream, dialect.answer_status, headers)

    def make_title(self, chat: ChatRef, ask: Ask, message: bytes) -> None:
        """Start making one, if it is wanted."""
        if self._titles.wanted(ask, message):
            self._titles.make(chat, ask, message)

    def _repeat(
        self,
        request: Request,
        dialect: Dialect,
        reader: Reader,
        again: Callable[[], Response],
    ) -> Response:
        """Answer as the turn of this key is answered; when it failed and left nothing, run again."""

        def decide(_: list[Event]) -> Response:
            message = reader.finish().message
            return answer(dialect, bytes(message)) if message else again()

        if self._relay:
            reader.step()
        later = self._hand_over(request, dialect, reader, lambda: reader.ended is not None, decide)
        return later or decide([])

    def _run(
        self,
        request: Request,
        dialect: Dialect,
        run: Producer,
        chat: ChatRef,
        ask: Ask,
        began: float,
    ) -> Response:
        entry = entry_of(request)
        entry.chat = chat.id
        entry.turn = run.started.ids.turn_id
        reply = _Reply(self, entry, dialect, run, chat, ask, began)
        if self._relay:
            quick = 0.0 if ask.stream else _QUICK_SECONDS
            reply.first.extend(run.wait_for_answer(quick))
            if later := self._hand_over(request, dialect, run, reply.is_time, reply.decide):
                return later
        return reply.decide(run.wait_for_answer(self.keepalive_seconds) if ask.stream else [])

    def _hand_over(
        self,
        request: Request,
        dialect: Dialect,
        turn: Producer | Reader,
        is_time: Callable[[], bool],
        decide: Callable[[list[Event]], Response],
    ) -> Response | None:
        """An answer by the relay, if there is more to come and it can have the client's socket."""
        if self._relay is None or turn.ended:
            return None
        entry = entry_of(request)

        def decide_later(events: list[Event]) -> Response:
            try:
                response = decide(events)
            except ChatkeepError as error:
                response = error_response(error, dialect.write_error)
            entry.status = response.status_code
            return response

        client = take_socket(request.environ)
        return Later(self._relay, turn, client, is_time, decide_later) if client else None


class _Reply(msgspec.Struct, frozen=True):
    """How a turn is answered once it has something to say; by then its request may be over."""

    talk: Talk
    entry: RequestEntry
    dialect: Dialect
    run: Producer
    chat: ChatRef
    ask: Ask
    began: float
    first: list[Event] = []
    asked_at: float = msgspec.field(default_factory=time.monotonic)

    def is_time(self) -> bool:
        """Whether to answer: a stream begins in time for its first keep-alive."""
        late = time.monotonic() >= self.asked_at + self.talk.keepalive_seconds
        return self.run.can_answer or (self.ask.stream and late)

    def decide(self, events: list[Event]) -> Response:
        """The answer; raises what the client is to be told instead."""
        run = self.run
        if self.ask.stream:
            run.check()
            response = self.talk.stream(self.dialect, run, [*self.first, *events])
        else:
            response = answer(self.dialect, run.finish())
        auth_seconds = self.entry.auth_seconds
        response.headers.add("Server-Timing", _server_timing(run, auth_seconds, self.began))
        response.headers.update(run.rate_status.headers())
        response.call_on_close(self._see_to_the_rest)
        return response

    def _see_to_the_rest(self) -> None:
        ended = self.run.ended
        self.entry.ending = ended.ending if ended else ""
        self.entry.tokens = self.run.tokens
        if ended and ended.message:
            self.talk.make_title(self.chat, self.ask, bytes(ended.message))


def answer(dialect: Dialect, message: bytes) -> Response:
    """A stored answer of the model, with the revision it brought the chat to."""
    found = read_answer(message)
    place = find_ref(found.id)
    headers = {"ETag": f'"{place.index + 1}"'} if place else {}
    return json_response(dialect.write_answer(found), dialect.answer_status, headers)


def _server_timing(run: Producer, auth_seconds: float, began: float) -> str:
    """What took how many milliseconds; of a stream, until its first byte."""
    spans = {
        "auth": auth_seconds,
        "store": run.store_seconds,
        "upstream": run.upstream_seconds,
        "total": auth_seconds + time.monotonic() - began,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in spans.items())
