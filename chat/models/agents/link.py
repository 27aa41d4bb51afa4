"""An agent connected to this instance, between the session on its socket and the calls that ask it.

`ask`, `forget` and `hang_up` may be called from any thread. All else is for the session, one thread
at a time; `wake` tells it that there is something to do. Only `forward` and `end` talk to Redis.
Replies go straight to a call of this instance, and in batches to a call of another: the first at
once, the next after growing pauses.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from chat.core.errors import StoreUnavailable
from chat.models.agents.connection import AgentConnection, AgentReply
from chat.store.agent_pool import LastSeen, Pool

_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_GROWTH = 1.5
_MAX_PAUSE_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 0.5
_LAST_TRIES = 3

Receiver = Callable[[AgentReply], None]


class AgentLink:
    """A connected agent; once it has to be disconnected, `over` is the reason."""

    def __init__(self, agent: str, connection: AgentConnection, wake: Callable[[], None]) -> None:
        self.agent = agent
        self.over = ""
        self._connection = connection
        self._wake = wake
        self._ended = False
        self._calls: deque[Callable[[], list[str]]] = deque()
        self._receivers: dict[str, Receiver | ReplyForwarder] = {}

    def ask(self, question: str, data: str, receiver: "Receiver | ReplyForwarder") -> None:
        """Send a question; its replies go to `receiver`."""

        def call() -> list[str]:
            self._receivers.setdefault(question, receiver)
            return self._connection.ask(question, data, time.monotonic())

        self._enqueue(call)
        if self._ended:
            with suppress(ValueError):  # `end`, in another thread, may have run it already
                self._calls.remove(call)
                self._deliver(receiver, AgentReply(question, "gone"))

    def forget(self, question: str) -> None:
        """Drop a question whose answer is no longer wanted."""

        def call() -> list[str]:
            self._connection.forget(question)
            self._receivers.pop(question, None)
            return []

        self._enqueue(call)

    def hang_up(self, reason: str) -> None:
        """Ask the session to disconnect the agent."""
        self.over = self.over or reason
        self._wake()

    @property
    def busy(self) -> bool:
        """Whether a question waits or is being answered."""
        return self._connection.busy or bool(self._calls)

    def on_message(self, text: str | bytes) -> list[str]:
        """Handle a message of the agent; returns the texts to send. Raises BadMessage."""
        texts = self._connection.receive(text, time.monotonic())
        self._deliver_replies()
        return texts

    def step(self) -> list[str]:
        """Do what is due; returns the texts to send."""
        texts: list[str] = []
        while self._calls:
            texts += self._calls.popleft()()
        now = time.monotonic()
        texts += self._connection.tick(now)
        self.over = self.over or self._connection.dead
        self._receivers = {q: r for q, r in self._receivers.items() if not _is_done(r)}
        return texts

    @property
    def has_work(self) -> bool:
        """Whether replies are due for another instance, or calls came while some were sent."""
        return bool(self._calls or self._due_forwarders())

    def forward(self) -> None:
        """Send the replies that are due to other instances."""
        for forwarder in self._due_forwarders():
            forwarder.send()

    def end(self) -> None:
        """After the socket is closed: every pending call learns that the agent is gone."""
        self._ended = True
        while self._calls:
            self._calls.popleft()()
        self._connection.lose()
        self._deliver_replies()
        for _ in range(_LAST_TRIES):
            late = [forwarder for forwarder in self._forwarders() if not forwarder.send_all()]
            if late:
                time.sleep(_AFTER_FAILURE_SECONDS)

    def last_seen(self) -> LastSeen:
        """When the agent last gave a sign of life, and when it last sent part of an answer."""
        ahead_ms = time.time_ns() // 1_000_000 - int(time.monotonic() * 1000)
        heartbeat_ms, message_ms = (
            int(at * 1000) + ahead_ms
            for at in (self._connection.heartbeat_at, self._connection.message_at)
        )
        return LastSeen(self.agent, heartbeat_ms, message_ms)

    def _enqueue(self, call: Callable[[], list[str]]) -> None:
        self._calls.append(call)
        self._wake()

    def _forwarders(self) -> "list[ReplyForwarder]":
        return [r for r in self._receivers.values() if isinstance(r, ReplyForwarder)]

    def _due_forwarders(self) -> "list[ReplyForwarder]":
        now = time.monotonic()
        return [forwarder for forwarder in self._forwarders() if forwarder.due_at <= now]

    def _deliver_replies(self) -> None:
        replies, self._connection.replies = self._connection.replies, []
        for reply in replies:
            if receiver := self._receivers.get(reply.question):
                self._deliver(receiver, reply)
                if reply.kind != "delta" and not isinstance(receiver, ReplyForwarder):
                    del self._receivers[reply.question]

    def _deliver(self, receiver: "Receiver | ReplyForwarder", reply: AgentReply) -> None:
        if not isinstance(receiver, ReplyForwarder):
            receiver(reply)
            return
        receiver.add(reply)
        if self._ended:
            receiver.send_all()


class ReplyForwarder:
    """Sends an agent's replies to the instance that asked the question."""

    def __init__(self, pool: Pool, instance: str, agent: str) -> None:
        self.waiting: list[AgentReply] = []
        self.done = False
        self.due_at = float("inf")
        self._pool = pool
        self._instance = instance
        self._agent = agent
        self._send_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def add(self, reply: AgentReply) -> None:
        """Queue a reply; one that ends the answer is due at once."""
        self.waiting.append(reply)
        self.due_at = self._send_at if reply.kind == "delta" else 0.0

    def send(self) -> bool:
        """Send the waiting replies, joined into one where possible; false when Redis is away."""
        replies = self.waiting
        if replies[-1].kind in ("error", "gone"):  # deltas are sent before the error after them
            replies = replies[:-1] or replies
        first, last = replies[0], replies[-1]
        text = "".join(reply.text for reply in replies)
        try:
            alive = self._pool.post(
                self._instance, last.kind, self._agent, last.question, first.at, text
            )
        except StoreUnavailable:
            self.due_at = self._send_at = time.monotonic() + _AFTER_FAILURE_SECONDS
            return False
        self.waiting = self.waiting[len(replies) :]
        self.due_at = 0.0 if self.waiting else float("inf")
        self.done = last.kind != "delta" or not alive
        self._send_at = time.monotonic() + self._pause
        self._pause = min(self._pause * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)
        return True

    def send_all(self) -> bool:
        """Send everything before the link ends; false when Redis is away."""
        while self.waiting:
            if not self.send():
                return False
        return True


def _is_done(receiver: "Receiver | ReplyForwarder") -> bool:
    return isinstance(receiver, ReplyForwarder) and receiver.done
