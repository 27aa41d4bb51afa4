"""One agent at the other end of a socket: what to send it, and what its messages mean. Pure.

In:   `ask`, `forget`, `receive(text, now)`, `tick(now)`; each returns the texts to send
Out:  `words`, what the agent said to its questions; `dead`, why it is to be given up

An agent that has been silent is pinged before it gets a question, and gets it with its answer. One
that does not answer is dead: within seconds when a question waits for it; but while it answers one,
it may be as silent as any model.
"""

import secrets
from collections import deque
from typing import Literal

import msgspec

from chat.models.agents import wire

_FRESH_SECONDS = 1.0
_PONG_SECONDS = 3.0
_REMEMBERED = 1000
NO_PONG = "No pong came."


class AgentReply(msgspec.Struct, frozen=True):
    """A piece of an answer, that begins after `at` characters; "gone": the agent is, with no answer."""

    question: str
    kind: Literal["delta", "done", "error", "gone"]
    at: int = 0
    text: str = ""


class Connection:
    """`now` is any clock in seconds that never goes back."""

    def __init__(self, ping_seconds: float, patience_seconds: float, now: float) -> None:
        self.dead = ""
        self.words: list[AgentReply] = []
        self.heard_at = now
        self.told_at = now  # when it last said something of its own: no pong
        self._ping_seconds = ping_seconds
        self._patience_seconds = patience_seconds
        self._pinged_at: float | None = None
        self._waiting: dict[str, str] = {}
        self._open: dict[str, str] = {}  # question -> what was said to it so far
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._open)

    def ask(self, question: str, data: str, now: float) -> list[str]:
        """A question; one that is asked twice is one."""
        if question in self._known:
            return []
        self._known.append(question)
        self._waiting[question] = data
        if self._open or now - self.heard_at < _FRESH_SECONDS:
            return self._send_waiting()
        return self._ping(now)

    def forget(self, question: str) -> None:
        """Nobody wants to know any more."""
        self._waiting.pop(question, None)
        self._open.pop(question, None)

    def receive(self, text: str | bytes, now: float) -> list[str]:
        """A message of the agent; raises BadMessage."""
        message = wire.read(text)
        self.heard_at, self._pinged_at = now, None
        if message.message == wire.PING:
            return [wire.write(message.id, wire.PONG), *self._send_waiting()]
        if message.id in self._open and message.message in (wire.DELTA, wire.RESPONSE, wire.ERROR):
            self.told_at = now
            self._hear(message)
        return self._send_waiting()

    def tick(self, now: float) -> list[str]:
        """Time has passed."""
        if self._pinged_at is None:
            return self._ping(now) if now - self.heard_at >= self._ping_seconds else []
        if now - self._pinged_at >= self._patience:
            self.dead = NO_PONG
        return []

    def lose(self) -> None:
        """The socket is closed."""
        for question in [*self._waiting, *self._open]:
            self.words.append(AgentReply(question, "gone", len(self._open.get(question, ""))))
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

    def _hear(self, message: wire.Message) -> None:
        question, said = message.id, self._open[message.id]
        if message.message == wire.DELTA:
            text = wire.text_of(message)
            self._open[question] = said + text
            self.words.append(AgentReply(question, "delta", len(said), text))
            return
        del self._open[question]
        self.words.append(_last_word(message, said))


def _last_word(message: wire.Message, said: str) -> AgentReply:
    if message.message == wire.ERROR:
        return AgentReply(message.id, "error", len(said), wire.text_of(message))
    try:
        content = wire.read_answer(message).content
    except wire.BadMessage as problem:
        return AgentReply(message.id, "error", len(said), str(problem))
    # What was streamed cannot be taken back: of another content, the stream counts.
    rest = content[len(said) :] if content.startswith(said) else ""
    return AgentReply(message.id, "done", len(said), rest)
