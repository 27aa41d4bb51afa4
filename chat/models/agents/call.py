"""A call of an agent, as one of the model API: `read` it until it returns b"", or raises.

What it returns is what the model API would have sent, so that a turn knows no difference.
"""

import socket
import time
from collections import deque
from typing import Protocol

import msgspec

from chat.core.errors import (
    ChatkeepError,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chat.core.refusals import tell
from chat.host.sockets import shows_something
from chat.models.agents.connection import AgentReply
from chat.models.agents.wire import Question

_BELL_BYTES = 4096
_DONE = b"data: [DONE]\n\n"


class Exchange(Protocol):
    """Where questions go, and whether the instances that hold them live."""

    lives_seconds: float

    def hand_over(self, call: "AgentCall", data: bytes, wish: str, without: str) -> tuple[str, str]:
        """Give a question to an agent: (agent, instance). Raises NoAgent."""

    def is_here(self, instance: str) -> bool: ...

    def is_alive(self, instance: str) -> bool: ...

    def end(self, call: "AgentCall", *, complete: bool) -> None:
        """No more words for this call."""


class AgentCall:
    """One question to an agent, and to a second one when the first is lost before it said a word."""

    def __init__(
        self, exchange: Exchange, number: str, question: Question, wish: str, silence_seconds: float
    ) -> None:
        self.answering = False
        self.question = number
        self.agent = self.instance = ""
        self._exchange = exchange
        self._stream = question.stream
        self._data = msgspec.json.encode(question)
        self._silence_seconds = silence_seconds
        self._heard_at = self._checked_at = time.monotonic()
        self._words: deque[tuple[str, AgentReply]] = deque()
        self._pieces: list[str] = []
        self._length = 0
        self._complete = self._closed = self._lost = self._replaced = False
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        try:
            self._ask(wish)
        except ChatkeepError:
            self.close()
            raise

    def deliver(self, word: AgentReply, agent: str) -> None:
        """A word of an agent; any thread may bring it, also before we know whom we asked."""
        self._words.append((agent, word))
        self._ring()

    def fileno(self) -> int | None:
        """What shows when there is something to `read`; None while that is not all."""
        return None if self._closed or self._complete or self._has_to_act() else self._ear.fileno()

    def read(self, timeout: float) -> bytes | None:
        """Wait at most `timeout` seconds for a piece of the answer; b"" is its end, None "not yet"."""
        if self._complete:
            return b""
        if self._has_to_act():
            self._act()
            return None
        if not self._words:
            self._wait(timeout)
        if self._words:
            return self._take()
        self._check_silence()
        return None

    def drain(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._exchange.end(self, complete=self._complete)
            self._bell.close()
            self._ear.close()

    def _ask(self, wish: str, without: str = "") -> None:
        self._heard_at = self._checked_at = time.monotonic()
        self.agent = ""
        self.agent, self.instance = self._exchange.hand_over(self, self._data, wish, without)

    def _has_to_act(self) -> bool:
        """Whether something is due that takes time: another agent, or a look at an instance."""
        if self._words:
            return False
        far = not self._exchange.is_here(self.instance)
        due_at = self._checked_at + self._exchange.lives_seconds
        return self._lost or (far and time.monotonic() >= due_at)

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
        # It may have dialled another instance by now; then it can be asked there.
        self._ask("", without=f"{self.agent} {self.instance}")

    def _wait(self, timeout: float) -> None:
        shows_something(self._ear, max(0.0, timeout))
        self._empty_bell()

    def _take(self) -> bytes | None:
        """What has come by now, as the model API would say it."""
        self._empty_bell()
        self._heard_at = self._checked_at = time.monotonic()
        pieces: list[bytes] = []
        while self._words and not self._complete:
            agent, word = self._words.popleft()
            if agent != self.agent:
                continue  # it had been given up
            if word.kind == "error" and pieces:  # first what it said before
                self._words.appendleft((agent, word))
                self._ring()
                break
            pieces.append(self._write(word))
        return b"".join(pieces) or None

    def _write(self, word: AgentReply) -> bytes:
        if word.kind == "gone":
            self._lost = True
            self._ring()
            return b""
        self.answering = True
        if word.kind == "error":
            reason = tell(word.text, "")
            raise UpstreamRefused(f"The agent failed: {reason}")
        text = word.text[max(0, self._length - word.at) :]  # it may have been sent twice
        self._length += len(text)
        self._complete = word.kind == "done"
        return self._chunk(text) if self._stream else self._whole(text)

    def _chunk(self, text: str) -> bytes:
        said = _event({"delta": {"content": text}}) if text else b""
        return (
            said + _event({"delta": {}, "finish_reason": "stop"}) + _DONE
            if self._complete
            else said
        )

    def _whole(self, text: str) -> bytes:
        self._pieces.append(text)
        message = {"role": "assistant", "content": "".join(self._pieces)}
        choice = {"message": message, "finish_reason": "stop"}
        return msgspec.json.encode({"choices": [choice]}) if self._complete else b""

    def _check_silence(self) -> None:
        if time.monotonic() - self._heard_at >= self._silence_seconds:
            self.close()
            raise UpstreamTimeout(f"The agent was silent for {self._silence_seconds:g} s.")

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:
            pass  # it has rung often enough, or nobody waits any more

    def _empty_bell(self) -> None:
        try:
            self._ear.recv(_BELL_BYTES)
        except OSError:
            pass


def _event(choice: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"choices": [choice]})
