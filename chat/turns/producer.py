"""One turn, from the model to its client and into Redis: a flow of events.

Nothing here waits for Redis while the model speaks: text for the turn's log, and the signs that it is
alive, go through a buffer. When the turn has ended, one commit stores it; while Redis is away, that is
tried again for a while. When the client leaves, the turn goes on without one until it is stored.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Sequence

import msgspec

from chat.core.answer import Answer
from chat.core.errors import (
    ChatkeepError,
    InternalError,
    StoreUnavailable,
    UpstreamUnavailable,
)
from chat.core.events import Delta, Ended, Event, Started
from chat.core.limits import RateStatus
from chat.core.outcomes import Finished, LogEnd
from chat.core.usage import Used
from chat.host.flow import WORK_DUE, DueAt, Wait
from chat.host.shutdown import Shutdown
from chat.models.choice import Candidate
from chat.settings import Settings
from chat.store.history import History
from chat.store.turn_log_writer import LOST, LogBuffer, TurnLogWriter
from chat.turns.asking import Asking
from chat.turns.events import ended_as_stored, ended_in_error, error_json, started
from chat.turns.plan import TurnPlan
from chat.turns.report import TurnReport, TurnTimes, make_report

_AGAIN_SECONDS = 0.5
_NOT_STORED = "The chat store was unreachable for too long; this turn could not be stored."
_SHUTTING_DOWN = "This instance is shutting down; nothing was stored."
log = logging.getLogger("chatkeep")


class Producer:
    """A running turn: a flow, whose last event is `ended`.

    `candidates` are asked one after the other, until one has begun to answer. `on_end` is called
    once the chat is free.
    """

    needs_client = False
    max_backlog = 256 * 1024

    def __init__(
        self,
        plan: TurnPlan,
        candidates: Sequence[Candidate],
        *,
        history: History,
        writer: TurnLogWriter,
        settings: Settings,
        shutdown: Shutdown,
        store_seconds: float,
        on_end: Callable[[], object],
    ) -> None:
        now = time.monotonic()
        begun = plan.begun
        self.ended: Ended | None = None
        self._on_end = on_end
        self.client_left: Callable[[], bool] = lambda: False
        self.chat, self.ref = plan.chat, begun.ref
        self.chat_mark = begun.mark
        self._plan = plan
        self._history = history
        self._writer = writer
        self._shutdown = shutdown
        self._patience_seconds = settings.store_patience_seconds
        self._keeps_reasoning = settings.keep_reasoning
        self.times = TurnTimes(now - store_seconds, now)
        self._asking = Asking(plan, candidates, settings, self.times)
        self._buffer = LogBuffer(
            plan.chat,
            begun.ref,
            lease_ms=history.lease_ms,
            keep_ms=history.keep_ms,
            began_ms=begun.now_ms,
        )
        self._writer.attach(self._buffer)
        self._store_away_at: float | None = None
        self._end_at = 0.0

    @property
    def _answer(self) -> Answer:
        return self._asking.answer

    @functools.cached_property
    def started(self) -> Started:
        """The first event of a stream."""
        return started(self.chat, self.ref, self._plan.user_message)

    @property
    def opening(self) -> list[Event]:
        """The events that a stream begins with."""
        return [self.started]

    @property
    def rate_status(self) -> RateStatus:
        return self._plan.begun.rate_status

    @property
    def answering(self) -> bool:
        """Whether the model has begun to answer."""
        return self._asking.call.answering

    @property
    def error(self) -> ChatkeepError | None:
        """Why it has ended, if nothing of it is stored: then it can still have a status of its own."""
        return self._answer.error if self.ended and not self.ended.message else None

    @property
    def report(self) -> TurnReport:
        """The facts of a turn that has ended."""
        assert self.ended
        return make_report(self._asking.call, self.ended, self._used(), self.times)

    def waits_for(self) -> Wait:
        if self._answer.ending:
            return DueAt(self._end_at) if time.monotonic() < self._end_at else WORK_DUE
        return WORK_DUE if self._answer.goes_on else self._asking.call.waits_for()

    def on_readable(self) -> list[Event]:
        """What has come from the model."""
        now = time.monotonic()
        if self._answer.ending:
            return self._answer.tick(now)
        self._buffer.driven_at = now
        return self._drive(self._asking.read)

    def work(self) -> list[Event]:
        """Call the model, or store the turn; the last event ends it."""
        if not self._answer.ending:
            self._buffer.driven_at = time.monotonic()
            events = self._drive(self._asking.work_and_read)
            # The last of the text goes out before the turn is stored: no token waits for Redis.
            if events or not self._answer.ending:
                return events
        return self._end()

    def _drive(self, read: Callable[[], list[Event]]) -> list[Event]:
        """What has come, unless the turn is to end early; text goes into the turn's log as well."""
        events = [] if self._is_stopped() else read()
        if events and self._plan.ask.stream:
            text = "".join([event.text for event in events if isinstance(event, Delta)])
            if text:
                self.times.note_text()
                self._writer.add(self._buffer, text)
        return events

    def _is_stopped(self) -> bool:
        """Whether a client, or the platform, ends this turn."""
        if verdict := self._buffer.verdict:
            # What became of a lost turn, its commit will return.
            self._answer.stop("interrupted" if verdict == LOST else verdict)
        elif self._shutdown.is_time(self._buffer.driven_at):
            if self._plan.ask.stream:
                self._answer.stop("interrupted")
            else:
                self._answer.fail(UpstreamUnavailable(_SHUTTING_DOWN, retry_after=1))
        return bool(self._answer.ending)

    def _end(self) -> list[Event]:
        # From here on everything has time-outs of its own: it may take long, but is not stuck.
        self._buffer.driven_at = math.inf
        self.times.note_answered()
        self._asking.finish()
        self.ended = self._settle()
        if self.ended is None:
            return self._answer.tick(time.monotonic())
        self.times.note_end()
        self._writer.detach(self._buffer)
        self._on_end()
        return [self.ended]

    def _settle(self) -> Ended | None:
        """Store the turn, or drop it, and say how it ended; None while Redis is away."""
        try:
            return self._store() if self._answer.stored else self._drop()
        except StoreUnavailable:
            now = time.monotonic()
            self._store_away_at = self._store_away_at or now
            if now - self._store_away_at < self._patience_seconds:
                self._end_at = now + _AGAIN_SECONDS
                return None
            self._answer.error = StoreUnavailable(_NOT_STORED, retry_after=1)
            self._take_back()
        except ChatkeepError as error:
            self._answer.error = error
        except Exception:  # whatever it is, the turn must end: else its lease lives for ever
            log.exception("turn %s could not be stored", self._plan.begun.ref.turn_id)
            self._answer.error = InternalError("An internal error occurred.")
            self._take_back()
        return self._failed(None)

    def _take_back(self) -> None:
        """Its client learns that nothing is stored: so let it be, whatever Redis has done by now."""
        plan, used = self._plan, self._used() if self.answering else None
        self._writer.take_back(self._history.take_back(plan.chat, plan.begun.ref, plan.ask, used))

    def _drop(self) -> Ended:
        plan, error = self._plan, self._answer.error
        assert error is not None
        # A log with text is deleted; one without shows late readers the error.
        shown = b"" if self._answer.offset else error_json(error)
        used = self._used() if self.answering else None
        is_rollback = self._buffer.verdict == "rollback"
        stored = self._history.drop(
            plan.chat, plan.begun.ref, plan.ask, shown, used, rolled_back=is_rollback
        )
        # Another instance may have taken it for dead, and stored it: then it has not simply failed.
        return ended_as_stored(stored) if stored else self._failed(None)

    def _leave_nothing(self) -> Ended:
        plan = self._plan  # only its client gets it; what it used is booked
        self._history.drop(plan.chat, plan.begun.ref, plan.ask, b"", self._used())
        return self._ended(self._write_message(plan.begun.now_ms))

    def _write_message(self, now_ms: int) -> bytes:
        turn, candidate = self._answer, self._asking.candidate
        return self._plan.answer_message(
            turn,
            turn.ending or "failed",
            now_ms,
            model=candidate.model,
            provider=candidate.provider,
            reasoning=turn.reasoning if self._keeps_reasoning or not self._plan.ask.stored else "",
        )

    def _store(self) -> Ended:
        plan = self._plan
        if not plan.ask.stored:
            return self._leave_nothing()
        turn = self._answer
        ending = turn.ending or "failed"
        now_ms = plan.begun.now_ms + int((time.monotonic() - self.times.called_at) * 1000)
        error = error_json(turn.error) if turn.error else b""
        answer = self._write_message(now_ms)
        finished = Finished(
            plan.begun.ref,
            plan.ask,
            answer,
            LogEnd(ending, turn.offset, self._buffer.rest(), error),
            self._used(),
            began_ms=plan.begun.now_ms,
            now_ms=now_ms,
            parent_id=plan.parent_id,
            usage=self._answer.usage,
            start=plan.start,
            replayed_bytes=plan.replayed_bytes,
            forks=plan.forks,
            agent=self._asking.call.agent,
            undelivered=self.client_left(),
        )
        stored = self._history.commit(plan.chat, finished)
        if stored != answer:  # somebody else has ended it before
            return ended_as_stored(stored)
        return self._ended(stored)

    def _ended(self, message: bytes) -> Ended:
        if self._answer.error:
            return self._failed(message)
        return Ended(self._answer.ending or "failed", self._answer.offset, msgspec.Raw(message))

    def _used(self) -> Used:
        return self._asking.used(is_stopped=self._buffer.verdict is not None)

    def _failed(self, message: bytes | None) -> Ended:
        assert self._answer.error is not None
        return ended_in_error(self._answer.error, self._answer.offset, message)
