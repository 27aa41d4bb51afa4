"""Asks for an answer: one candidate after the other, until one of them has begun to answer."""

import logging
import time
from collections.abc import Sequence

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
from chat.core.messages import Ask
from chat.models.choice import Candidate
from chat.models.upstream.retries import request_id

_MAX_CONTINUATIONS = 5
_OF_THE_MODEL = (UpstreamRefused, UpstreamUnavailable, UpstreamTimeout)
log = logging.getLogger("chatkeep")


class Asking:
    """The calls of one turn, and the answer that they give; `name` is for the log."""

    def __init__(
        self, name: str, ask: Ask, candidates: Sequence[Candidate], keepalive_seconds: float
    ) -> None:
        self._name = name
        self._ask = ask
        self._keepalive_seconds = keepalive_seconds
        self._candidates = iter(candidates)
        self._began_at = time.monotonic()
        self.upstream_seconds = 0.0
        self._begin(next(self._candidates))

    def _begin(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.call = candidate.call("")
        self._has_head = False
        self.answer = Answer(
            stream=self._ask.stream,
            keepalive_seconds=self._keepalive_seconds,
            now=time.monotonic(),
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
        if self.answer.ending == "failed":
            self._ask_next()
        return events

    def _work(self) -> None:
        if self.answer.goes_on:
            self.call.drain()
            self.call, self._has_head = self.candidate.call(self.answer.text), False
            self.answer.go_on()
        self.call.work()

    def _read(self) -> list[Event]:
        piece = self.call.read()
        now = time.monotonic()
        if self.call.answering and not self._has_head:
            self._take_head(now)
        if piece is None:
            return self.answer.tick(now)
        return self.answer.receive(piece, now) if piece else self.answer.upstream_ended()

    def _take_head(self, now: float) -> None:
        self._has_head = True
        self.upstream_seconds = self.upstream_seconds or now - self._began_at
        self.answer.head(self.call.headers.get("content-encoding", ""))

    def _ask_next(self) -> None:
        """Ask the next candidate, as long as the client has seen nothing of an answer."""
        answer, name = self.answer, self.candidate.model
        log.warning("turn %s: %s failed (%s)", self._name, name, request_id(self.call.headers))
        is_shown = answer.offset or (answer.reasoning and self._ask.reasoning)
        if is_shown or not isinstance(answer.error, _OF_THE_MODEL):
            return
        if following := next(self._candidates, None):
            self.call.close()
            self._begin(following)
