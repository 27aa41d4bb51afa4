"""One agent at the other end of a socket: what to send it, and what its messages mean. Pure.

In:   `ask`, `forget`, `receive(text, now)`, `tick(now)`; each returns the texts to send
Out:  `replies`, the agent's replies to its questions; `dead`, why it has to be disconnected

An agent that has been silent is pinged first; the question follows its pong. One that sends no pong
is dead: within seconds while a question waits for it, but in the middle of an answer it may be as
silent as any model.
"""

import secrets
from collections import deque
from typing import Literal

import msgspec

from chat.models.agents import wire

_FRESH_SECONDS = 1.0
_PONG_SECONDS = 3.0
_REMEMBERED = 1000
NO_PONG = "No pong arrived in time."


class AgentReply(msgspec.Struct, frozen=True):
    """A piece of an answer, beginning after `at` characters; "gone": the agent left without one."""

    question: str
    kind: Literal["delta", "done", "error", "gone"]
    at: int = 0
    text: str = ""


class AgentConnection:
    """The state of one agent's connection; `now` is a monotonic clock in seconds."""

    def __init__(self, ping_seconds: float, patience_seconds: float, now: float) -> None:
        self.dead = ""
        self.replies: list[AgentReply] = []
        self.heartbeat_at = now  # the last message of any kind
        self.message_at = now  # the last part of an answer
        self._ping_seconds = ping_seconds
        self._patience_seconds = patience_seconds
        self._pinged_at: float | None = None
        self._waiting: dict[str, str] = {}
        self._open: dict[str, str] = {}  # question -> its answer so far
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def busy(self) -> bool:
        """Whether a question waits or is being answered."""
        return bool(self._waiting or self._open)

    def ask(self, question: str, data: str, now: float) -> list[str]:
        """Queue a question, unless it was asked before; returns the texts to send."""
        if question in self._known:
            return []
        self._known.append(question)
        self._waiting[question] = data
        if self._open or now - self.heartbeat_at < _FRESH_SECONDS:
            return self._send_waiting()
        return self._ping(now)

    def forget(self, question: str) -> None:
        """Drop a question whose answer is no longer wanted."""
        self._waiting.pop(question, None)
        self._open.pop(question, None)

    def receive(self, text: str | bytes, now: float) -> list[str]:
        """Handle a message of the agent; returns the texts to send. Raises BadMessage."""
        message = wire.read(text)
        self.heartbeat_at, self._pinged_at = now, None
        if message.message == wire.PING:
            return [wire.write(message.id, wire.PONG), *self._send_waiting()]
        if message.id in self._open and message.message in (wire.DELTA, wire.RESPONSE, wire.ERROR):
            self.message_at = now
            self._reply(message)
        return self._send_waiting()

    def tick(self, now: float) -> list[str]:
        """Ping a silent agent, or declare it dead; returns the texts to send."""
        if self._pinged_at is None:
            return self._ping(now) if now - self.heartbeat_at >= self._ping_seconds else []
        if now - self._pinged_at >= self._patience:
            self.dead = NO_PONG
        return []

    def lose(self) -> None:
        """After the socket is closed: no question will be answered."""
        for question in [*self._waiting, *self._open]:
            self.replies.append(AgentReply(question, "gone", len(self._open.get(question, ""))))
        self._waiting, self._open = {}, {}

    @property
    def _patience(self) -> float:
        if self._open:
            return max(self._patience_seconds, self._ping_seconds)
        return _PONG_SECONDS if self._waiting else max(_PONG_SECONDS, self._ping_seconds)

    def _ping(self, now: float) -> list[str]:
        if self._pinged_at is not None:
            return []
        self._pinged_at = now
        return [wire.write(secrets.token_hex(8), wire.PING)]

    def _send_waiting(self) -> list[str]:
        waiting, self._waiting = self._waiting, {}
        self._open.update(dict.fromkeys(waiting, ""))
        return [wire.write(question, wire.REQUEST, data) for question, data in waiting.items()]

    def _reply(self, message: wire.Message) -> None:
        question, text_so_far = message.id, self._open[message.id]
        if message.message == wire.DELTA:
            text = wire.text_of(message)
            self._open[question] = text_so_far + text
            self.replies.append(AgentReply(question, "delta", len(text_so_far), text))
            return
        del self._open[question]
        self.replies.append(_final_reply(message, text_so_far))


def _final_reply(message: wire.Message, text_so_far: str) -> AgentReply:
    at = len(text_so_far)
    if message.message == wire.ERROR:
        return AgentReply(message.id, "error", at, wire.text_of(message))
    try:
        content = wire.read_answer(message).content
    except wire.BadMessage as problem:
        return AgentReply(message.id, "error", at, str(problem))
    # Streamed text cannot be taken back: if the response differs from it, the stream counts.
    rest = content[at:] if content.startswith(text_so_far) else ""
    return AgentReply(message.id, "done", at, rest)
