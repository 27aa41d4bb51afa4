"""One turn over HTTP, in any dialect: what is asked, how it is answered, streamed or not."""

import time

from flask import Request, Response
from msgspec.structs import replace

from chat.chats import Chats
from chat.credentials import Caller
from chat.dialects import Dialect
from chat.errors import ChatkeepError
from chat.events import Event
from chat.history import History
from chat.keyspace import ChatRef
from chat.messages import Ask, find_ref, read_answer
from chat.reader import Reader
from chat.relay import Relay
from chat.run import Run
from chat.titles import Titles
from chat.turns import Turns
from chat.web.access_log import Entry, entry_of
from chat.web.carried import EventStream, Later, take_socket
from chat.web.headers import pause_for, read_if_match, read_repeat
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
        self._keepalive_seconds = keepalive_seconds

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
        ask = dialect.read_request(request.get_data(), request.headers.get("Accept", ""))
        ask = replace(
            ask,
            repeat=read_repeat(request),
            revision=read_if_match(request),
            must_exist=must_exist,
        )
        while True:
            turn = self._turns.begin(caller, chat, ask, pause_for(request))
            if isinstance(turn, Run):
                return self._run(request, dialect, turn, chat, ask, began)
            if ask.stream:
                return self.stream(dialect, turn)
            if message := turn.finish().message:
                return answer(dialect, bytes(message))
            # The turn of this key failed and left nothing: then it may run again.

    def stream(
        self, dialect: Dialect, turn: Run | Reader, first: list[Event] | None = None
    ) -> Response:
        """Answer with a turn's events, as they come."""
        stream = EventStream(turn, first or [], dialect.write_event)
        headers = _STREAM_HEADERS | {"Content-Type": dialect.stream_type}
        return Response(stream, dialect.answer_status, headers)

    def _run(
        self,
        request: Request,
        dialect: Dialect,
        run: Run,
        chat: ChatRef,
        ask: Ask,
        began: float,
    ) -> Response:
        entry = entry_of(request)  # now: `request` means nothing in another thread
        entry.turn = run.started.ids.turn_id
        first: list[Event] = []
        give_up = time.monotonic() + self._keepalive_seconds

        def is_time() -> bool:
            return run.can_answer or (ask.stream and time.monotonic() >= give_up)

        def decide(events: list[Event]) -> Response:
            return self._answer(entry, dialect, run, chat, ask, began, [*first, *events])

        def decide_later(events: list[Event]) -> Response:
            try:
                response = decide(events)
            except ChatkeepError as error:
                response = error_response(error, dialect.write_error)
            entry.status = response.status_code
            return response

        if self._relay:
            first += run.wait_for_answer(0.0 if ask.stream else _QUICK_SECONDS)
            client = None if run.ended else take_socket(request.environ)
            if client:
                return Later(self._relay, run, client, is_time, decide_later)
        return decide(run.wait_for_answer(give_up - time.monotonic()) if ask.stream else [])

    def _answer(
        self,
        entry: Entry,
        dialect: Dialect,
        run: Run,
        chat: ChatRef,
        ask: Ask,
        began: float,
        events: list[Event],
    ) -> Response:
        """Answer with a turn that has something to say, or raise why it has not."""
        if ask.stream:
            run.check()
            response = self.stream(dialect, run, events)
        else:
            response = answer(dialect, run.finish())
        response.headers["Server-Timing"] = _server_timing(run, entry.auth_seconds, began)
        response.headers.update(run.standing.headers())

        @response.call_on_close
        def see_to_the_rest() -> None:
            entry.ending = run.ended.ending if run.ended else ""
            entry.tokens = run.tokens
            message = run.ended.message if run.ended else None
            if message and self._titles.wanted(ask, bytes(message)):
                self._titles.make(chat, ask, bytes(message))

        return response


class Routes:
    """A family of handlers; each takes the request and the parts of its path."""

    def __init__(self, turns: Turns, history: History, chats: Chats, talk: Talk) -> None:
        self._turns = turns
        self._history = history
        self._chats = chats
        self._talk = talk


def answer(dialect: Dialect, message: bytes) -> Response:
    """A stored answer of the model, with the revision it brought the chat to."""
    found = read_answer(message)
    place = find_ref(found.id)
    headers = {"ETag": f'"{place.index + 1}"'} if place else {}
    return json_response(dialect.write_answer(found), dialect.answer_status, headers)


def _server_timing(run: Run, auth_seconds: float, began: float) -> str:
    """What took how many milliseconds; of a stream, until its first byte."""
    spans = {
        "auth": auth_seconds,
        "store": run.store_seconds,
        "upstream": run.upstream_seconds,
        "total": auth_seconds + time.monotonic() - began,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in spans.items())
