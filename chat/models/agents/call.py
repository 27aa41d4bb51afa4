"""A question to an agent, with the interface of a call of the model API.

`read` returns the bytes that the model API would have sent, so that a turn sees no difference.
"""

import socket
import time
from collections import deque
from typing import Protocol

import msgspec

from chat.core.completions import redact
from chat.core.errors import (
    ChatkeepError,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chat.host.sockets import shows_something
from chat.models.agents.connection import AgentReply
from chat.models.agents.wire import Question

_WAKE_BYTES = 4096
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
        self.question = question_id
        self.agent = self.instance = ""
        self._exchange = exchange
        self._stream = question.stream
        self._data = msgspec.json.encode(question)
        self._silence_seconds = silence_seconds
        self._received_at = self._checked_at = time.monotonic()
        self._replies: deque[tuple[str, AgentReply]] = deque()
        self._pieces: list[str] = []
        self._length = 0
        self._complete = self._closed = self._lost = self._replaced = False
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._wake_sender.setblocking(False)
        self._wake_receiver.setblocking(False)
        try:
            self._ask(preferred)
        except ChatkeepError:
            self.close()
            raise

    def deliver(self, reply: AgentReply, agent: str) -> None:
        """Take a reply; from any thread, and also before `dispatch` has returned."""
        self._replies.append((agent, reply))
        self._wake()

    def fileno(self) -> int | None:
        """What shows when there is something to `read`; None while that is not all."""
        return (
            None
            if self._closed or self._complete or self._has_to_act()
            else self._wake_receiver.fileno()
        )

    def read(self, timeout: float) -> bytes | None:
        """Wait at most `timeout` seconds for a piece of the answer; b"" is its end, None "not yet"."""
        if self._complete:
            return b""
        if self._has_to_act():
            self._act()
            return None
        if not self._replies:
            self._wait(timeout)
        if self._replies:
            return self._take()
        self._check_silence()
        return None

    def drain(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._exchange.end(self, complete=self._complete)
            self._wake_sender.close()
            self._wake_receiver.close()

    def _ask(self, preferred: str, excluded: str = "") -> None:
        self._received_at = self._checked_at = time.monotonic()
        self.agent = ""
        self.agent, self.instance = self._exchange.dispatch(self, self._data, preferred, excluded)

    def _has_to_act(self) -> bool:
        """Whether a round trip is due: to ask another agent, or whether the instance is alive."""
        if self._replies:
            return False
        remote = not self._exchange.is_here(self.instance)
        due_at = self._checked_at + self._exchange.lives_seconds
        return self._lost or (remote and time.monotonic() >= due_at)

    def _act(self) -> None:
        if not self._lost:
            self._checked_at = time.monotonic()
            try:
                self._lost = not self._exchange.is_alive(self.instance)
            except StoreUnavailable:
                return
        if self._lost:
            self._lost = False
            self._replace()

    def _replace(self) -> None:
        if self._length:
            raise UpstreamRefused("The agent broke off in the middle of its answer.")
        if self._replaced:
            raise UpstreamUnavailable("Two agents were lost before they answered.", retry_after=1)
        self._replaced = True
        self._exchange.end(self, complete=True)
        # Excluded on this instance alone: by now it may be connected to another.
        self._ask("", excluded=f"{self.agent} {self.instance}")

    def _wait(self, timeout: float) -> None:
        shows_something(self._wake_receiver, max(0.0, timeout))
        self._drain_wake_pipe()

    def _take(self) -> bytes | None:
        """The replies received so far, as the model API would send them."""
        self._drain_wake_pipe()
        self._received_at = self._checked_at = time.monotonic()
        pieces: list[bytes] = []
        while self._replies and not self._complete:
            agent, reply = self._replies.popleft()
            if agent != self.agent:
                continue  # from an agent that was given up
            if reply.kind == "error" and pieces:  # deliver the text before it first
                self._replies.appendleft((agent, reply))
                self._wake()
                break
            pieces.append(self._write(reply))
        return b"".join(pieces) or None

    def _write(self, reply: AgentReply) -> bytes:
        if reply.kind == "gone":
            self._lost = True
            self._wake()
            return b""
        self.answering = True
        if reply.kind == "error":
            reason = redact(reply.text, "") or "no reason given"
            raise UpstreamRefused(f"The agent failed: {reason}")
        text = reply.text[max(0, self._length - reply.at) :]  # a retried batch may come twice
        self._length += len(text)
        self._complete = reply.kind == "done"
        return self._chunk(text) if self._stream else self._whole(text)

    def _chunk(self, text: str) -> bytes:
        delta = _event({"delta": {"content": text}}) if text else b""
        return (
            delta + _event({"delta": {}, "finish_reason": "stop"}) + _DONE
            if self._complete
            else delta
        )

    def _whole(self, text: str) -> bytes:
        self._pieces.append(text)
        message = {"role": "assistant", "content": "".join(self._pieces)}
        choice = {"message": message, "finish_reason": "stop"}
        return msgspec.json.encode({"choices": [choice]}) if self._complete else b""

    def _check_silence(self) -> None:
        if time.monotonic() - self._received_at >= self._silence_seconds:
            self.close()
            raise UpstreamTimeout(f"The agent was silent for {self._silence_seconds:g} s.")

    def _wake(self) -> None:
        try:
            self._wake_sender.send(b"\0")
        except OSError:
            pass  # the pipe is full, so a wake-up is pending; or the call is closed

    def _drain_wake_pipe(self) -> None:
        try:
            self._wake_receiver.recv(_WAKE_BYTES)
        except OSError:
            pass


def _event(choice: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"choices": [choice]})
