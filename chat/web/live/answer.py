"""Answer a request with a turn: begin one or follow one, and choose who drives the answer."""

import time
from collections.abc import Callable
from functools import partial
from itertools import chain

from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.core.cursors import read_cursor
from chat.core.events import Started
from chat.core.messages import Ask, ChatRef, Repeat
from chat.core.sent import Sent
from chat.host.flow import TICK_SECONDS, pump
from chat.host.relay import Relay
from chat.host.sockets import has_left
from chat.models.titles import Titles
from chat.store.vault import Vault
from chat.turns.producer import Producer
from chat.turns.reader import Reader
from chat.turns.turns import Turns
from chat.turns.waiting import Waiting
from chat.web.access_log import entry_of
from chat.web.dialects import Dialect
from chat.web.headers import header, last_event_id, read_if_match, read_recent, read_repeat
from chat.web.live.handover import HandedOver, take_socket
from chat.web.live.response import RequestContext, Turn, TurnResponse, write_stored

_QUICK_SECONDS = 0.25  # an answer that takes longer leaves the request's thread to others


class Talk:
    """Runs a turn for a request, and answers it."""

    def __init__(
        self,
        turns: Turns,
        titles: Titles,
        vault: Vault,
        keepalive_seconds: float,
        relay: Relay | None,
    ) -> None:
        self._vault = vault
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
        ask: Ask | None = None,
        sent: Sent | None = None,
        accept: Callable[[Started], object] | None = None,
    ) -> Response:
        """Answer a message that the request brings; `ask`, `sent`: where it has been read.

        `accept`: what to answer at once, while the turn goes on.
        """
        began_at = time.monotonic()
        chat = ChatRef(caller.owner, chat_id)
        ask = ask or dialect.read_request(request.get_data(), header(request, "Accept", ""))
        ask = replace(
            ask,
            repeat=self._read_repeat(request, caller.owner, ask),
            if_match=read_if_match(request),
            must_exist=must_exist,
        )

        entry_of(request).stream = ask.stream
        cursor = read_cursor(last_event_id(request))

        def begin() -> Turn:
            return self._turns.begin(caller, chat, ask, cursor, sent)

        context = RequestContext(
            entry_of(request),
            dialect,
            ask.stream and not accept,
            self._keepalive_seconds,
            began_at,
            begin,
            partial(self._make_title, chat, ask),
            accept,
            self._turns.note_delivery if ask.openai else None,
        )
        return self._answer(request, context, begin())

    def follow(self, request: Request, dialect: Dialect, reader: Reader) -> Response:
        """Answer with the events of a turn that is driven elsewhere."""
        context = RequestContext(entry_of(request), dialect, True, self._keepalive_seconds)
        return self._answer(request, context, reader)

    def _answer(self, request: Request, context: RequestContext, turn: Turn) -> Response:
        """The relay drives it if there is more to come and it can have the client's socket."""
        answer = TurnResponse(context, turn)
        if server_socket := request.environ.get("gunicorn.socket"):
            answer.client_left = partial(has_left, server_socket)
        if self._relay:
            if not isinstance(turn, Waiting):
                quick = isinstance(turn, Producer) and not (context.stream or context.accept)
                answer.drive_for(_QUICK_SECONDS if quick else 0.0)
            if not turn.ended and (client := take_socket(request.environ)):
                answer.wake = partial(self._relay.wake, answer)
                response = HandedOver(self._relay, answer, client, 200)
                answer.client_left = partial(has_left, client)
                answer.use_socket(request.environ["SERVER_PROTOCOL"], response.headers)
                return response
        return _pumped(answer, self._keepalive_seconds)

    def _read_repeat(self, request: Request, owner: str, ask: Ask) -> Repeat | None:
        read = read_recent if ask.openai else read_repeat
        return read(request, owner, self._vault)

    def _make_title(self, chat: ChatRef, ask: Ask, mark: str, message: bytes) -> None:
        """Start making one, if it is wanted, for the chat with this mark."""
        if self._titles.wanted(ask, message):
            self._titles.make(chat, mark, ask, message)


def _pumped(answer: TurnResponse, keepalive_seconds: float) -> Response:
    """This thread drives the answer: now until it has a head, then whenever the server wants more."""
    pieces = pump(answer, min(TICK_SECONDS, keepalive_seconds))
    first = next(piece for piece in pieces if answer.head)
    assert answer.head
    # An empty piece would end the answer: in HTTP it is the last chunk.
    body = first if answer.ended else filter(None, chain((first,), pieces))
    response = Response(body, answer.head.status, answer.head.headers)
    response.call_on_close(answer.finish)
    return response


def answer(dialect: Dialect, message: bytes, mark: str) -> Response:
    """A stored answer of the model, in the chat with this mark."""
    head, body = write_stored(dialect, message, mark)
    return Response(body, head.status, head.headers)
