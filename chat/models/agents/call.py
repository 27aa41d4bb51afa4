"""A question to an agent, with the interface of a call of the model API.

`read` returns the bytes that the model API would have streamed, whether a stream was asked for or
not: so a turn sees no difference, and nothing is kept here of an answer that is too long.
"""

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from chat.core.errors import (
    ChatkeepError,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chat.core.refusals import sanitize
from chat.host.flow import WORK_DUE, Readable, Wait
from chat.host.sockets import WakeUpPipe
from chat.models.agents.connection import AgentReply
from chat.models.agents.wire import Question

_DONE = b"data: [DONE]\n\n"


class AgentExchange(Protocol):
    """Dispatches questions to agents, and tells whether their instances are alive."""

    lives_seconds: float

    def dispatch(
        self, call: "AgentCall", data: bytes, preferred: str, excluded: str
    ) -> tuple[str, str]:
        """Give a question to an agent: (agent, instance). Raises NoAgent."""

    def is_here(self, instance: str) -> bool: ...

    def is_alive(self, instance: str) -> bool: ...

    def end(self, call: "AgentCall", *, complete: bool) -> None:
        """Deliver no more replies to this call; an answer that is not complete is cancelled."""


class AgentCall:
    """One question to an agent; to a second one if the first is lost before its answer began."""

    def __init__(
        self,
        exchange: AgentExchange,
        question_id: str,
        question: Question,
        preferred: str,
        silence_seconds: float,
    ) -> None:
        self.answering = False
        self.headers: Mapping[str, str] = {}
        self.question = question_id
        self.agent = self.instance = ""
        self.attempts = self.upstream_status = 0
        self.upstream_request_id = self.upstream_failure = ""
        self._exchange = exchange
        self._data = msgspec.json.encode(question)
        self._silence_seconds = silence_seconds
        self._received_at = self._checked_at = time.monotonic()
        self._replies: deque[tuple[str, AgentReply]] = deque()
        self._length = 0
        self._complete = self._closed = self._lost = self._replaced = False
        self._wake_up = WakeUpPipe()
        self._readable = Readable(self._wake_up.fileno())
        try:
            self._ask(preferred)
        except ChatkeepError:
            self.close()
            raise

    def deliver(self, reply: AgentReply, agent: str) -> None:
        """Take a reply; from any thread, and also before `dispatch` has returned."""
        self._replies.append((agent, reply))
        self._wake_up.wake()

    def waits_for(self) -> Wait:
        idle = not (self._closed or self._complete or self._has_to_act())
        return self._readable if idle else WORK_DUE

    def work(self) -> None:
        """Ask whether the agent's instance is alive, or another agent, when that is due."""
        if self._complete or not self._has_to_act():
            return
        if not self._lost:
            self._checked_at = time.monotonic()
            with suppress(StoreUnavailable):
                self._lost = not self._exchange.is_alive(self.instance)
        if self._lost:
            self._lost = False
            self._replace()

    def read(self) -> bytes | None:
        """A piece of the answer, at once; b"" is its end, None "nothing yet"."""
        if self._complete:
            return b""
        self._wake_up.drain()
        if self._replies:
            return self._take()
        if not self._lost:
            self._check_silence()
        return None

    def drain(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._exchange.end(self, complete=self._complete)
            self._wake_up.close()

    def _ask(self, preferred: str, excluded: str = "") -> None:
        self._received_at = self._checked_at = time.monotonic()
        self.attempts += 1
        self.agent = ""
        self.agent, self.instance = self._exchange.dispatch(self, self._data, preferred, excluded)

    def _has_to_act(self) -> bool:
        """Whether a round trip is due: to ask another agent, or whether the instance is alive."""
        if self._replies:
            return False
        remote = not self._exchange.is_here(self.instance)
        due_at = self._checked_at + self._exchange.lives_seconds
        return self._lost or (remote and time.monotonic() >= due_at)

    def _replace(self) -> None:
        self.upstream_failure = "was lost"
        if self._length:
            raise UpstreamRefused("The agent broke off in the middle of its answer.")
        if self._replaced:
            raise UpstreamUnavailable("Two agents were lost before they answered.", retry_after=1)
        self._replaced = True
        self._exchange.end(self, complete=True)
        # Excluded on this instance alone: by now it may be connected to another.
        self._ask("", excluded=f"{self.agent} {self.instance}")

    def _take(self) -> bytes | None:
        """The replies received so far, as the model API would send them."""
        self._received_at = self._checked_at = time.monotonic()
        pieces: list[bytes] = []
        while self._replies and not self._complete:
            agent, reply = self._replies.popleft()
            if agent != self.agent:
                continue  # from an agent that was given up
            if reply.kind == "error" and pieces:  # deliver the text before it first
                self._replies.appendleft((agent, reply))
                self._wake_up.wake()
                break
            pieces.append(self._write(reply))
        return b"".join(pieces) or None

    def _write(self, reply: AgentReply) -> bytes:
        if reply.kind == "gone":
            self._lost = True
            self._wake_up.wake()
            return b""
        self.answering = True
        if reply.kind == "error":
            self.upstream_failure = "answered with an error"
            reason = sanitize(reply.text)
            raise UpstreamRefused(f"The agent failed: {reason}")
        text = reply.text[max(0, self._length - reply.at) :]  # a retried batch may come twice
        self._length += len(text)
        self._complete = reply.kind == "done"
        return self._chunk(text)

    def _chunk(self, text: str) -> bytes:
        delta = _event({"delta": {"content": text}}) if text else b""
        return (
            delta + _event({"delta": {}, "finish_reason": "stop"}) + _DONE
            if self._complete
            else delta
        )

    def _check_silence(self) -> None:
        if time.monotonic() - self._received_at >= self._silence_seconds:
            self.close()
            self.upstream_failure = f"was silent for {self._silence_seconds:g} s"
            raise UpstreamTimeout(f"The agent was silent for {self._silence_seconds:g} s.")


def _event(choice: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"choices": [choice]})
