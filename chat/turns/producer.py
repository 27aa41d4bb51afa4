"""Drive one turn from the model to its client and into Redis.

Each `step` waits a moment for the model, passes on what came, and never waits for Redis: text for
the turn's log, and the signs that it is alive, go through an outbox. When the turn has ended, one
commit stores it; while Redis is away, that is tried again for a while. When the client leaves,
`close` goes on without one until the turn is stored.

The driver is the thread that serves the request, which calls `step` until there is no more; or,
where it can have the client's socket, the relay, which calls `hear` when `fileno` shows something.
"""

import logging
import math
import time
from collections.abc import Callable

import msgspec

from chat.core.answer import CUT, Answer
from chat.core.errors import (
    ChatkeepError,
    InternalError,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamUnavailable,
)
from chat.core.events import STATUS_OF, Delta, Ended, Event, Started, TurnIds
from chat.core.http1 import ProtocolError
from chat.core.limits import RateStatus
from chat.core.messages import Ask, ChatRef, TurnRef, read_answer, write_assistant_message
from chat.core.outcomes import Begun, LogEnd
from chat.core.prompt import estimate_text
from chat.core.usage import Used
from chat.host.shutdown import Shutdown
from chat.models.upstream import ModelCall
from chat.settings import Settings
from chat.store.history import History
from chat.store.turn_log import LOST, LogBuffer, TurnLogWriter

_STEP_SECONDS = 0.5
_MAX_CONTINUATIONS = 5
_AGAIN_SECONDS = 0.5
_NOT_STORED = "The chat store was away for too long; this turn could not be stored."
_SHUTTING_DOWN = "This instance is shutting down; nothing was stored."
log = logging.getLogger("chatkeep")


class TurnPlan(msgspec.Struct, frozen=True):
    """Where a turn stands: its chat, and what is decided before the model speaks."""

    chat: ChatRef
    begun: Begun
    ask: Ask
    model: str
    prompt_tokens: int  # by estimate
    start: int | None  # None: it is not kept, because the chat has forks
    parent_id: str | None
    forks: str | None  # None: they stay


class Producer:
    """A running turn; `ended` is its last event, once there is one.

    `call` calls the model; given what it has said so far, to go on from there.
    """

    needs_client = False
    most_waiting = 256 * 1024

    def __init__(
        self,
        place: TurnPlan,
        call: Callable[[str], ModelCall],
        *,
        history: History,
        writer: TurnLogWriter,
        settings: Settings,
        shutdown: Shutdown,
        store_seconds: float,
    ) -> None:
        now = time.monotonic()
        begun, ask = place.begun, place.ask
        self.ended: Ended | None = None
        self.store_seconds = store_seconds
        self.upstream_seconds = 0.0
        self._place = place
        self._make_call = call
        self._call = call("")
        self._history = history
        self._writer = writer
        self._shutdown = shutdown
        self._patience_seconds = settings.store_patience_seconds
        self._turn = Answer(
            stream=ask.stream,
            keepalive_seconds=settings.keepalive_seconds,
            now=now,
            continuations=_MAX_CONTINUATIONS if ask.autocontinue else 0,
            secret=settings.gpt_api_key,
            tells_reasoning=ask.reasoning,
        )
        self._box = LogBuffer(place.chat, begun.ref, history.lease_ms, begun.now_ms)
        self._writer.open(self._box)
        self._began_at = now
        self._store_away_at: float | None = None

    @property
    def started(self) -> Started:
        return started(self._place.chat, self._place.begun.ref)

    @property
    def rate_status(self) -> RateStatus:
        return self._place.begun.rate_status

    @property
    def tokens(self) -> int:
        """What it has used so far, by estimate if need be."""
        return self._used().tokens

    def finish(self) -> bytes:
        """Run an unstreamed turn to its end; the stored message, or raises why there is none."""
        while not self.ended:
            self.step()
        if self.ended.message is None and self._turn.error:
            raise self._turn.error
        return bytes(self.ended.message or b"")

    @property
    def can_answer(self) -> bool:
        """Whether there is something to answer with: the beginning of a stream, else all of it."""
        return self.ended is not None or (self._place.ask.stream and self._call.answering)

    def wait_for_answer(self, seconds: float) -> list[Event]:
        """Until there is something to answer with, but not longer than that: the events so far."""
        events: list[Event] = []
        give_up = time.monotonic() + seconds
        while not self.can_answer:
            left = give_up - time.monotonic()
            events += self.step(max(0.0, left))
            if left <= 0:
                break
        return events

    def check(self) -> None:
        """Raise why it failed before it said anything: the error can still have a status of its own."""
        if self.ended and self._turn.error and not self.ended.message:
            raise self._turn.error

    def fileno(self) -> int | None:
        """The socket that shows when there is something to `hear`; None when a `step` is due."""
        return None if self._turn.ending or self._turn.goes_on else self._call.fileno()

    def hear(self) -> list[Event]:
        """What the model has said by now, without waiting for anything."""
        self._box.driven_at = time.monotonic()
        return [] if self.fileno() is None else self._relay_safely(0.0)

    def step(self, longest: float = _STEP_SECONDS) -> list[Event]:
        """Wait a while for the model, and return what it said; the last event ends the turn."""
        self._box.driven_at = time.monotonic()
        if not self._turn.ending:
            events = self._relay_safely(min(longest, _STEP_SECONDS))
            # The last of the text goes out before the turn is stored: no token waits for Redis.
            if events or not self._turn.ending:
                return events
        return self._end()

    def close(self) -> None:
        """The client is gone, or has everything: see the turn through to its end."""
        while not self.ended:
            self.step()

    def _relay_safely(self, longest: float) -> list[Event]:
        try:
            return self._relay(longest)
        except ProtocolError:
            self._turn.fail(UpstreamRefused(CUT))
        except ChatkeepError as error:
            self._turn.fail(error)
        except Exception:
            log.exception("turn %s failed", self._place.begun.ref.turn_id)
            self._turn.fail(InternalError("Something went wrong here."))
        return []

    def _relay(self, longest: float) -> list[Event]:
        now = time.monotonic()
        if self._is_stopped(now):
            return []
        if self._turn.goes_on:
            self._call.drain()
            self._call = self._make_call(self._turn.text)
            self._turn.go_on()
        piece = self._call.read(min(longest, self._turn.quiet_for(now)))
        now = time.monotonic()
        if self._call.answering and not self.upstream_seconds:
            self.upstream_seconds = now - self._began_at
        if piece is None:
            return self._turn.tick(now)
        events = self._turn.receive(piece, now) if piece else self._turn.upstream_ended()
        if self._place.ask.stream:
            text = "".join([event.text for event in events if isinstance(event, Delta)])
            if text:
                self._writer.add(self._box, text)
        return events

    def _is_stopped(self, now: float) -> bool:
        """Whether somebody, or the platform, wants this turn to end."""
        verdict = self._box.verdict
        if verdict:
            # Of a lost turn the commit will say what became of it.
            self._turn.stop("interrupted" if verdict == LOST else verdict)
        elif self._shutdown.is_time(now):
            if self._place.ask.stream:
                self._turn.stop("interrupted")
            else:
                self._turn.fail(UpstreamUnavailable(_SHUTTING_DOWN, retry_after=1))
        return bool(self._turn.ending)

    def _end(self) -> list[Event]:
        # What is waited for from here on has time-outs of its own: it takes long, but is not stuck.
        self._box.driven_at = math.inf
        if self._store_away_at:
            time.sleep(_AGAIN_SECONDS)
        self._call.drain()
        self.ended = self._settle()
        if self.ended is None:
            return self._turn.tick(time.monotonic())
        self._writer.close(self._box)
        return [self.ended]

    def _settle(self) -> Ended | None:
        """Store the turn, or drop it, and say how it ended; None while Redis is away."""
        try:
            return self._store() if self._turn.stored else self._drop()
        except StoreUnavailable:
            now = time.monotonic()
            self._store_away_at = self._store_away_at or now
            if now - self._store_away_at < self._patience_seconds:
                return None
            self._turn.error = StoreUnavailable(_NOT_STORED, retry_after=1)
        except ChatkeepError as error:
            self._turn.error = error
        except Exception:  # whatever it is, the turn must end, or its lease would be kept for ever
            log.exception("turn %s could not be stored", self._place.begun.ref.turn_id)
            self._turn.error = InternalError("Something went wrong here.")
        return self._failed(None)

    def _drop(self) -> Ended:
        place, error = self._place, self._turn.error
        assert error is not None
        # A log with text in it goes; one without tells late readers what happened.
        told = b"" if self._turn.offset else _error_json(error)
        used = self._used() if self._call.answering else None
        stored = self._history.drop(place.chat, place.begun.ref, place.ask, told, used)
        # Taken for dead, it may have been stored by somebody else; then it has not just failed.
        return ended_as_stored(stored) if stored else self._failed(None)

    def _store(self) -> Ended:
        place, turn = self._place, self._turn
        ending = turn.ending or "failed"
        now_ms = place.begun.now_ms + int((time.monotonic() - self._began_at) * 1000)
        answer = write_assistant_message(
            place.begun.ref,
            place.chat.id,
            turn.text,
            model=place.model,
            status=STATUS_OF[ending],
            now_ms=now_ms,
            finish_reason=turn.finish_reason or ("error" if turn.error else None),
            usage=turn.usage,
        )
        stored = self._history.commit(
            place.chat,
            place.begun.ref,
            place.ask,
            answer,
            self._log_end(ending),
            self._used(),
            began_ms=place.begun.now_ms,
            now_ms=now_ms,
            parent_id=place.parent_id,
            usage=turn.usage,
            start=place.start,
            forks=place.forks,
            agent=self._call.agent,
        )
        if stored != answer:  # somebody else has ended it before
            return ended_as_stored(stored)
        if turn.error:
            return self._failed(stored)
        return Ended(ending, turn.offset, message=msgspec.Raw(stored))

    def _used(self) -> Used:
        usage, place = self._turn.usage, self._place
        if usage:
            return Used(place.model, usage.prompt_tokens, usage.completion_tokens)
        return Used(place.model, place.prompt_tokens, estimate_text(self._turn.heard))

    def _log_end(self, ending: str) -> LogEnd:
        error = _error_json(self._turn.error) if self._turn.error else b""
        return LogEnd(ending, self._turn.offset, self._box.rest(), error)

    def _failed(self, message: bytes | None) -> Ended:
        assert self._turn.error is not None
        return ended_in_error(self._turn.error, self._turn.offset, message)


def started(chat: ChatRef, ref: TurnRef, offset: int = 0) -> Started:
    """The first event of a stream."""
    ids = TurnIds(ref.turn_id, chat.id, ref.user_message_id, ref.message_id)
    return Started(ids, offset)


def ended_as_stored(message: bytes) -> Ended:
    """The last event of a turn that is known by its stored message only."""
    answer = read_answer(message)
    length = len(answer.content)
    if answer.status == "completed" or answer.status == "cancelled":
        return Ended(answer.status, length, message=msgspec.Raw(message))
    if answer.finish_reason == "error":
        return ended_in_error(UpstreamRefused(CUT), length, message)
    return Ended("interrupted", length, message=msgspec.Raw(message))


def ended_in_error(error: ChatkeepError, offset: int, message: bytes | None = None) -> Ended:
    """The last event of a turn that failed, with what is stored of it."""
    stored = None if message is None else msgspec.Raw(message)
    return Ended("failed", offset, message=stored, error=msgspec.Raw(_error_json(error)))


def _error_json(error: ChatkeepError) -> bytes:
    return msgspec.json.encode(error.body()["error"])
