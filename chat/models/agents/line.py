"""One agent of this instance, between who carries its socket and those that ask it.

Anybody may `ask`, `forget` and `hang_up`; all else is for who carries the socket, one thread at a
time, and is called by `ring` when there is something to do. Redis is asked by `send_mail` and `end`
alone. What the agent says goes straight to a call of this instance, and to one of another in batches:
at once first, then after growing pauses.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from chat.core.errors import StoreUnavailable
from chat.models.agents.connection import AgentReply, Connection
from chat.store.agent_pool import LastSeen, Pool

_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_GROWTH = 1.5
_MAX_PAUSE_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 0.5
_LAST_TRIES = 3

Hear = Callable[[AgentReply], None]


class AgentLink:
    """A connected agent; `over` says why no more, once it is to be closed."""

    def __init__(self, agent: str, connection: Connection, ring: Callable[[], None]) -> None:
        self.agent = agent
        self.over = ""
        self._connection = connection
        self._ring = ring
        self._ended = False
        self._calls: deque[Callable[[], list[str]]] = deque()
        self._hearers: dict[str, Hear | ReplyForwarder] = {}

    def ask(self, question: str, data: str, hearer: "Hear | ReplyForwarder") -> None:
        def call() -> list[str]:
            self._hearers.setdefault(question, hearer)
            return self._connection.ask(question, data, time.monotonic())

        self._call(call)
        if self._ended:
            with suppress(ValueError):  # unless `end` has found it
                self._calls.remove(call)
                self._tell(hearer, AgentReply(question, "gone"))

    def forget(self, question: str) -> None:
        """Nobody wants the answer any more."""

        def call() -> list[str]:
            self._connection.forget(question)
            self._hearers.pop(question, None)
            return []

        self._call(call)

    def hang_up(self, reason: str) -> None:
        self.over = self.over or reason
        self._ring()

    @property
    def busy(self) -> bool:
        return self._connection.busy or bool(self._calls)

    def hear(self, text: str | bytes) -> list[str]:
        """A message came; returns what to send. Raises BadMessage."""
        texts = self._connection.receive(text, time.monotonic())
        self._pass_on()
        return texts

    def step(self) -> list[str]:
        """Do what is due; returns what to send."""
        texts: list[str] = []
        while self._calls:
            texts += self._calls.popleft()()
        now = time.monotonic()
        texts += self._connection.tick(now)
        self.over = self.over or self._connection.dead
        self._hearers = {q: h for q, h in self._hearers.items() if not _is_done(h)}
        return texts

    @property
    def has_work(self) -> bool:
        """Whether there is mail to send, or something that came while some was sent."""
        return bool(self._calls or self._due_mails())

    def send_mail(self) -> None:
        """What is due, to other instances."""
        for mail in self._due_mails():
            mail.send()

    def end(self) -> None:
        """The socket is closed: whoever waits for an answer is told."""
        self._ended = True
        while self._calls:
            self._calls.popleft()()
        self._connection.lose()
        self._pass_on()
        for _ in range(_LAST_TRIES):
            late = [mail for mail in self._mails() if not mail.send_all()]
            if late:
                time.sleep(_AFTER_FAILURE_SECONDS)

    def seen(self) -> LastSeen:
        ahead_ms = time.time_ns() // 1_000_000 - int(time.monotonic() * 1000)
        heard, told = (
            int(at * 1000) + ahead_ms
            for at in (self._connection.heard_at, self._connection.told_at)
        )
        return LastSeen(self.agent, heard, told)

    def _call(self, call: Callable[[], list[str]]) -> None:
        self._calls.append(call)
        self._ring()

    def _mails(self) -> "list[ReplyForwarder]":
        return [hearer for hearer in self._hearers.values() if isinstance(hearer, ReplyForwarder)]

    def _due_mails(self) -> "list[ReplyForwarder]":
        now = time.monotonic()
        return [mail for mail in self._mails() if mail.due_at <= now]

    def _pass_on(self) -> None:
        words, self._connection.words = self._connection.words, []
        for word in words:
            if hearer := self._hearers.get(word.question):
                self._tell(hearer, word)
                if word.kind != "delta" and not isinstance(hearer, ReplyForwarder):
                    del self._hearers[word.question]

    def _tell(self, hearer: "Hear | ReplyForwarder", word: AgentReply) -> None:
        if not isinstance(hearer, ReplyForwarder):
            hearer(word)
            return
        hearer.add(word)
        if self._ended:
            hearer.send_all()


class ReplyForwarder:
    """What an agent says to a question of another instance."""

    def __init__(self, pool: Pool, instance: str, agent: str) -> None:
        self.waiting: list[AgentReply] = []
        self.done = False
        self.due_at = float("inf")
        self._pool = pool
        self._instance = instance
        self._agent = agent
        self._send_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def add(self, word: AgentReply) -> None:
        self.waiting.append(word)
        self.due_at = self._send_at if word.kind == "delta" else 0.0

    def send(self) -> bool:
        """Send all that waits, as one as far as that can be; false when Redis is away."""
        words = self.waiting
        if words[-1].kind in ("error", "gone"):  # what it said before is sent before
            words = words[:-1] or words
        first, last = words[0], words[-1]
        text = "".join(word.text for word in words)
        try:
            heard = self._pool.post(
                self._instance, last.kind, self._agent, last.question, first.at, text
            )
        except StoreUnavailable:
            self.due_at = self._send_at = time.monotonic() + _AFTER_FAILURE_SECONDS
            return False
        self.waiting = self.waiting[len(words) :]
        self.due_at = 0.0 if self.waiting else float("inf")
        self.done = last.kind != "delta" or not heard
        self._send_at = time.monotonic() + self._pause
        self._pause = min(self._pause * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)
        return True

    def send_all(self) -> bool:
        """Before the line ends; false when Redis is away."""
        while self.waiting:
            if not self.send():
                return False
        return True


def _is_done(hearer: "Hear | ReplyForwarder") -> bool:
    return isinstance(hearer, ReplyForwarder) and hearer.done
