"""Begin, run and end a turn: the whole story.

    begin     one round trip to Redis: the lease, and the history that goes into the prompt
    call      the prompt goes to the model
    relay     bytes from the model -> the pure machine in `turn.py` -> events to the client
    commit    one round trip: both messages, or nothing

The thread that serves the request drives all of it. When its client leaves, it goes on without
one until the turn is stored.
"""

import logging
import time
from dataclasses import dataclass

import msgspec

from chat import completions, context
from chat.context import Prompt
from chat.errors import ChatkeepError, InternalError, NotFound, TurnInProgress, UpstreamRefused
from chat.events import Ended, Event, Started
from chat.history import Begun, History
from chat.http1 import ProtocolError
from chat.messages import (
    Ask,
    AssistantMessage,
    Status,
    Usage,
    UserMessage,
    id_of,
    new_nonce,
    timestamp,
)
from chat.settings import Settings
from chat.turn import Turn
from chat.upstream import Upstream

_ASK_AGAIN_SECONDS = 0.5
_UNSTREAMED_STEP_SECONDS = 1.0
_BROKE_OFF = "The model API broke off in the middle of its answer."
log = logging.getLogger("chatkeep")


class Turns:
    """Makes the turns of all chats."""

    def __init__(self, history: History, upstream: Upstream, settings: Settings) -> None:
        self.history = history
        self.upstream = upstream
        self.settings = settings

    def begin(self, owner: str, chat_id: str, ask: Ask) -> "Run":
        """Take the chat's lease and start the call; raises what the client is to be told."""
        started = time.monotonic()
        begun = self._take_lease(owner, chat_id, ask)
        try:
            prompt = self._build_prompt(begun, ask)
            parent_id = _check_parent(begun, ask)
        except ChatkeepError:
            self.history.drop(owner, chat_id, begun.ref)
            raise
        model = ask.model or begun.model or self.settings.gpt_model
        body = completions.encode_request(
            model,
            prompt.messages,
            stream=ask.stream,
            temperature=ask.temperature,
            max_tokens=ask.max_tokens,
            openai_itself=self.upstream.openai_itself,
        )
        chat = _Place(owner, chat_id, begun, parent_id, model, prompt.start)
        return Run(self, chat, ask, body, store_seconds=time.monotonic() - started)

    def _take_lease(self, owner: str, chat_id: str, ask: Ask) -> Begun:
        give_up = time.monotonic() + (
            self.settings.queue_seconds if ask.when_busy == "enqueue" else 0
        )
        nonce = new_nonce()
        while True:
            outcome = self.history.begin(owner, chat_id, nonce)
            if isinstance(outcome, Begun):
                return outcome
            if time.monotonic() >= give_up:
                raise TurnInProgress("Another turn of this chat is running.")
            time.sleep(_ASK_AGAIN_SECONDS)

    def _build_prompt(self, begun: Begun, ask: Ask) -> Prompt:
        system = begun.system if ask.system is None else ask.system
        return context.build(
            system or self.settings.system_prompt,
            begun.messages,
            ask.content,
            start=begun.start,
            max_tokens=self.settings.max_prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a turn stands: its chat, and what is decided before the model speaks."""

    owner: str
    chat_id: str
    begun: Begun
    parent_id: str | None
    model: str
    start: int


class Run:
    """A running turn, driven by `step` until it has `ended`; then it is stored, or gone."""

    def __init__(
        self, turns: Turns, place: _Place, ask: Ask, body: bytes, *, store_seconds: float
    ) -> None:
        now = time.monotonic()
        settings = turns.settings
        self.store_seconds = store_seconds
        self.upstream_seconds = 0.0
        self._history = turns.history
        self._place = place
        self._ask = ask
        self._call = turns.upstream.call(body)
        self._turn = Turn(stream=ask.stream, keepalive_seconds=settings.keepalive_seconds, now=now)
        self._beat_seconds = settings.lease_seconds / 3
        self._begun_at = self._beaten_at = now
        self._ended: Ended | None = None

    @property
    def ended(self) -> Ended | None:
        return self._ended

    @property
    def revision(self) -> int:
        """The chat's, once the turn is stored."""
        return self._place.begun.ref.index + 2

    @property
    def started(self) -> Started:
        """The turn's ids, as its first event."""
        ref = self._place.begun.ref
        return Started(ref.turn_id, self._place.chat_id, ref.user_message_id, ref.message_id)

    def finish(self) -> bytes:
        """Run an unstreamed turn to its end; the stored message, or raises why there is none."""
        while not self._ended:
            self.step()
        if self._turn.error:
            raise self._turn.error
        return bytes(self._ended.message or b"")

    def wait_for_answer(self, seconds: float) -> list[Event]:
        """Until the model begins to answer, but not longer than that: the events so far.

        An error in this time is raised, so that it can still have a status of its own.
        """
        events: list[Event] = []
        give_up = time.monotonic() + seconds
        while not (self._call.answering or self._ended) and time.monotonic() < give_up:
            events += self.step(give_up - time.monotonic())
        if self._ended and self._turn.error and not self._ended.message:
            raise self._turn.error
        return events

    def step(self, longest: float = _UNSTREAMED_STEP_SECONDS) -> list[Event]:
        """Wait a while for the model, and return what it said; the last event ends the turn."""
        try:
            events = self._relay(longest)
        except Exception:
            log.exception("turn %s failed", self.started.turn_id)
            events = []
            self._turn.fail(InternalError("Something went wrong here; nothing is known of it yet."))
        if self._turn.ended:
            self._call.drain()
            self._ended = self._settle()
            events.append(self._ended)
        return events

    def close(self) -> None:
        """The client is gone, or has everything: see the turn through to its end."""
        while not self._ended:
            self.step()

    def _relay(self, longest: float) -> list[Event]:
        now = time.monotonic()
        try:
            piece = self._call.read(min(longest, self._turn.quiet_for(now), self._beat_seconds))
        except ProtocolError:
            self._turn.fail(UpstreamRefused(_BROKE_OFF))
            return []
        except ChatkeepError as error:
            self._turn.fail(error)
            return []
        now = time.monotonic()
        if self._call.answering and not self.upstream_seconds:
            self.upstream_seconds = now - self._begun_at
        self._keep_lease(now)
        if piece:
            return self._turn.receive(piece, now)
        return self._turn.tick(now) if piece is None else self._turn.upstream_ended()

    def _keep_lease(self, now: float) -> None:
        if now - self._beaten_at < self._beat_seconds:
            return
        self._beaten_at = now
        place = self._place
        try:
            self._history.keep_lease(place.owner, place.chat_id, place.begun.ref, self._now_ms())
        except ChatkeepError:
            pass  # the next beat, or the commit, will tell

    def _settle(self) -> Ended:
        """Store the turn, or drop it, and say how it ended."""
        turn, message = self._turn, None
        try:
            if turn.status:
                message = self._commit(turn.status)
            else:
                self._drop()
        except ChatkeepError as error:
            # A turn that was to be dropped anyway keeps its first error; its lease runs out.
            turn.error = turn.error or error
        if turn.error is None:
            return Ended("completed", turn.offset, message=message)
        return Ended("failed", turn.offset, message=message, error=_error_body(turn.error))

    def _commit(self, status: Status) -> msgspec.Raw:
        place = self._place
        now_ms = self._now_ms()
        usage = self._turn.usage
        fields: dict[str, str | int] = {"start": place.start}
        if self._ask.system is not None:
            fields["system"] = self._ask.system
        stored = self._history.commit(
            place.owner,
            place.chat_id,
            place.begun.ref,
            began_ms=place.begun.now_ms,
            now_ms=now_ms,
            user=msgspec.json.encode(self._user_message()),
            assistant=msgspec.json.encode(self._assistant_message(status, now_ms)),
            usage=usage or Usage(),
            fields=fields,
        )
        return msgspec.Raw(stored)

    def _drop(self) -> None:
        self._history.drop(self._place.owner, self._place.chat_id, self._place.begun.ref)

    def _user_message(self) -> UserMessage:
        begun = self._place.begun
        return UserMessage(
            id=begun.ref.user_message_id,
            role="user",
            content=self._ask.content,
            created_at=timestamp(begun.now_ms),
            parent_id=self._place.parent_id,
            metadata=self._ask.metadata,
        )

    def _assistant_message(self, status: Status, now_ms: int) -> AssistantMessage:
        ref = self._place.begun.ref
        return AssistantMessage(
            id=ref.message_id,
            role="assistant",
            content=self._turn.text,
            created_at=timestamp(now_ms),
            parent_id=ref.user_message_id,
            model=self._place.model,
            finish_reason=self._turn.finish_reason,
            status=status,
            usage=self._turn.usage,
            chat_id=self._place.chat_id,
            turn_id=ref.turn_id,
        )

    def _now_ms(self) -> int:
        """Redis' time, carried on by this machine's clock since begin."""
        return self._place.begun.now_ms + int((time.monotonic() - self._begun_at) * 1000)


def _check_parent(begun: Begun, ask: Ask) -> str | None:
    """The id of the newest message, which a turn goes on from."""
    newest = id_of(begun.messages[-1]) if begun.messages else None
    if ask.parent_id is not None and ask.parent_id != newest:
        raise NotFound(
            "`parent_id` is not the newest message of this chat.",
            param="parent_id",
            code="message_not_found",
        )
    return newest


def _error_body(error: ChatkeepError) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(error.body()["error"]))
