"""Asks for an answer: one candidate after the other, until one of them has begun to answer."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from chat.core.answer import Answer
from chat.core.errors import (
    ChatkeepError,
    InternalError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chat.core.events import Event
from chat.core.http1 import ProtocolError
from chat.core.usage import Used
from chat.models.choice import Candidate
from chat.models.upstream import ModelCall
from chat.settings import Settings
from chat.turns.plan import TurnPlan
from chat.turns.report import TurnTimes

_MAX_CONTINUATIONS = 5
_OF_THE_MODEL = (UpstreamRefused, UpstreamUnavailable, UpstreamTimeout)
log = logging.getLogger("chatkeep")


class Asking:
    """The calls of one turn, and the answer that they give."""

    def __init__(
        self,
        plan: TurnPlan,
        candidates: Sequence[Candidate],
        settings: Settings,
        times: TurnTimes,
    ) -> None:
        self._plan = plan
        self._ask = plan.ask
        self._name = plan.begun.ref.turn_id
        self._times = times
        self._settings = settings
        self._candidates = deque(candidates)
        self._begin(self._candidates.popleft())

    def _begin(self, candidate: Candidate) -> None:
        self.call = candidate.call("", 0)
        self.candidate = candidate
        self._has_head = False
        self.answer = Answer(
            stream=self._ask.stream,
            keepalive_seconds=self._settings.keepalive_seconds,
            now=time.monotonic(),
            max_bytes=self._settings.max_answer_bytes,
            continuations=_MAX_CONTINUATIONS if self._ask.autocontinue else 0,
            secrets=candidate.secrets,
            tells_reasoning=self._ask.reasoning,
        )

    def read(self) -> list[Event]:
        """What has come; whatever fails ends the answer, unless there is somebody else to ask."""
        return self._guard(work=False)

    def work_and_read(self) -> list[Event]:
        """As `read`, after calling the model, if that is due: this takes time."""
        return self._guard(work=True)

    def _guard(self, *, work: bool) -> list[Event]:
        events: list[Event] = []
        try:
            if work:
                self._work()
            events = self._read()
        except ProtocolError:
            events = self.answer.upstream_ended(cut=True)
        except ChatkeepError as error:
            self.answer.fail(error)
        except Exception:
            log.exception("turn %s failed", self._name)
            self.answer.fail(InternalError("An internal error occurred."))
        if self._candidates and self.answer.offset:
            self._let_go()
        if self.answer.ending == "failed":
            self._ask_next()
        return events

    def _work(self) -> None:
        if self.answer.goes_on:
            self._continue()
        if not self.answer.ending:
            self.call.work()

    def _read(self) -> list[Event]:
        if self.answer.ending:
            return []
        piece = self.call.read()
        now = time.monotonic()
        if self.call.answering and not self._has_head:
            self._take_head(now)
        if piece is None:
            return self.answer.tick(now)
        return self.answer.receive(piece, now) if piece else self.answer.upstream_ended()

    def _continue(self) -> None:
        """Ask for more of the same answer, if it may become longer."""
        used_tokens = self.used(is_stopped=False).completion_tokens
        if not self._plan.may_go_on(used_tokens):
            self.answer.close()
            return
        self.call.drain()
        self._times.attempts_before += self.call.attempts
        self.call, self._has_head = self.candidate.call(self.answer.text, used_tokens), False
        self.answer.go_on()

    def used(self, *, is_stopped: bool) -> Used:
        """What the model that answers has used so far."""
        return self._plan.used(self.answer, self.candidate.model, is_stopped=is_stopped)

    def _take_head(self, now: float) -> None:
        self._has_head = True
        self._times.answering_at = self._times.answering_at or now
        self.answer.head(self.call.headers.get("content-encoding", ""))
        if not self._candidates:
            self._let_go()

    def _let_go(self) -> None:
        """Nobody else is asked: let go of the prompt, unless it is to be continued."""
        self._candidates.clear()
        if not self._ask.autocontinue:
            self.candidate = replace(self.candidate, call=_not_again)

    def finish(self) -> None:
        """After the last event: have the connection used again, if the answer has an end."""
        if self.answer.was_cut:
            self.call.close()
        else:
            self.call.drain()

    def _ask_next(self) -> None:
        """Ask the next candidate, as long as the client has seen nothing of an answer."""
        answer, name = self.answer, self.candidate.model
        log.warning("turn %s: %s failed (%s)", self._name, name, self.call.upstream_failure)
        is_shown = answer.offset or (answer.reasoning and self._ask.reasoning)
        if is_shown or not isinstance(answer.error, _OF_THE_MODEL):
            return
        if self._candidates:
            self.call.close()
            self._times.attempts_before += self.call.attempts
            with suppress(ChatkeepError):  # no room for its request: the first failure stands
                self._begin(self._candidates.popleft())


def _not_again(text: str, tokens: int) -> ModelCall:
    raise InternalError("The model is called once.")
