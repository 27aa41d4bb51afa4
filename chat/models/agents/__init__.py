"""Agents: machines that dial in and answer questions, connected to whichever instance.

    wire.py         the messages on an agent's socket                    (pure)
    connection.py   what they mean: pings, questions, replies            (pure)
    link.py         an agent connected to this instance
    call.py         a question to an agent, as a call of the model API
    __main__.py     the reference agent, a program of its own
    this file       the agents and calls of this instance, one object per process

One thread reads this instance's inbox and sends its heartbeat. It runs while an agent is connected
or a question of ours is with another instance, and for a minute after.
"""

import logging
import threading
import time
import uuid
from contextlib import suppress
from functools import partial

import msgspec

from chat.core.errors import NoAgent, StoreUnavailable
from chat.models.agents.call import AgentCall
from chat.models.agents.connection import AgentConnection, AgentReply
from chat.models.agents.link import AgentLink, ReplyForwarder
from chat.models.agents.wire import Question
from chat.store.agent_pool import InboxEntry, LastSeen, Pool

_LINGER_SECONDS = 60.0
_AFTER_FAILURE_SECONDS = 0.5
_TRIES = 5
log = logging.getLogger("chatkeep")


class Agents:
    """Agents of this instance, and calls of agents anywhere."""

    def __init__(
        self, pool: Pool, *, enabled: bool, ping_seconds: float, silence_seconds: float
    ) -> None:
        self.lives_seconds = pool.lives_seconds
        self._pool = pool
        self._enabled = enabled
        self._ping_seconds = ping_seconds
        self._silence_seconds = silence_seconds
        self._links: dict[str, AgentLink] = {}
        self._calls: dict[str, AgentCall] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._beat_at = self._wanted_until = 0.0

    def ask(self, question: Question, preferred: str) -> AgentCall:
        """Ask an agent, the preferred one if it is connected. Raises NoAgent."""
        if not self._enabled:
            raise _no_agent()
        return AgentCall(self, uuid.uuid4().hex, question, preferred, self._silence_seconds)

    def new_connection(self) -> AgentConnection:
        """The state of a new connection, with the ping times of the settings."""
        return AgentConnection(self._ping_seconds, self._silence_seconds, time.monotonic())

    def attach(self, link: AgentLink) -> None:
        """Add an agent that has connected; an older link of the same agent is closed."""
        with self._lock:
            older, self._links[link.agent] = self._links.get(link.agent), link
        if older:
            older.hang_up("It has connected again.")
        self._keep_inbox_open()
        self._pool.join(link.agent)
        self._beat()

    def withdraw(self, link: AgentLink) -> None:
        """Give an agent no more questions."""
        if self._links.get(link.agent) is link:
            with suppress(StoreUnavailable):
                self._pool.leave([link.agent])

    def detach(self, link: AgentLink) -> None:
        """Remove an agent that has disconnected."""
        self.withdraw(link)
        with self._lock:
            if self._links.get(link.agent) is link:
                del self._links[link.agent]
        link.end()

    def connections(self) -> list[LastSeen]:
        """The agents of all instances."""
        own = {agent: link.last_seen() for agent, link in list(self._links.items())}
        return [own.get(other.agent, other) for other in self._pool.connections()]

    # For calls (`AgentExchange`).

    def dispatch(
        self, call: AgentCall, data: bytes, preferred: str, excluded: str
    ) -> tuple[str, str]:
        """Give a question to an agent: (agent, instance). Raises NoAgent."""
        self._calls[call.question] = call
        for _ in range(_TRIES):
            if self._pool.knows_others:
                self._keep_inbox_open()
            found = self._pool.pick(call.question, data, preferred, excluded)
            if found is None:
                break
            agent, instance = found
            if not agent:
                continue
            if not self.is_here(instance):
                return found
            if link := self._links.get(agent):
                link.ask(call.question, data.decode(), partial(call.deliver, agent=agent))
                return found
            self._pool.leave([agent])
        raise _no_agent()

    def is_here(self, instance: str) -> bool:
        """Whether this is our own instance."""
        return instance == self._pool.instance

    def is_alive(self, instance: str) -> bool:
        """Whether an instance still sends heartbeats. Raises StoreUnavailable."""
        return self.is_here(instance) or self._pool.is_alive(instance)

    def end(self, call: AgentCall, *, complete: bool) -> None:
        """Remove a call; unless its answer is complete, the agent's instance forgets the question."""
        self._calls.pop(call.question, None)
        if complete or not call.agent:
            return
        if self.is_here(call.instance):
            if link := self._links.get(call.agent):
                link.forget(call.question)
        else:
            with suppress(StoreUnavailable):
                self._pool.post(call.instance, "stop", call.agent, call.question)

    # The inbox.

    def _keep_inbox_open(self) -> None:
        """Open the inbox and start its thread, if need be, and keep them for a while."""
        with self._lock:
            now = time.monotonic()
            self._wanted_until = now + _LINGER_SECONDS
            if self._thread is None:
                self._pool.open()
                self._beat_at = now + self._ping_seconds
                self._thread = threading.Thread(target=self._read, name="agents", daemon=True)
                self._thread.start()
                return
        if now > self._beat_at + self._ping_seconds:  # this process was frozen
            self._beat()

    def _beat(self) -> None:
        links = list(self._links.values())
        if not self._pool.beat([link.last_seen() for link in links]):
            self._pool.open()
            for link in links:
                self._pool.join(link.agent)
        self._beat_at = time.monotonic() + self._ping_seconds

    def _read(self) -> None:
        while self._should_run():
            try:
                now = time.monotonic()
                if now >= self._beat_at:
                    self._beat()
                for entry in self._pool.read(max(0.01, self._beat_at - now)):
                    self._open(entry)
            except StoreUnavailable:
                time.sleep(_AFTER_FAILURE_SECONDS)
            except Exception:  # without this thread, no reply of another instance arrives
                log.exception("the agents' inbox failed")
                time.sleep(_AFTER_FAILURE_SECONDS)

    def _should_run(self) -> bool:
        with self._lock:
            if self._links or self._calls or time.monotonic() < self._wanted_until:
                return True
            self._thread = None
            with suppress(StoreUnavailable):
                self._pool.close()
            return False

    def _open(self, entry: InboxEntry) -> None:
        if entry.kind == "ask":
            self._answer(entry)
        elif entry.kind in ("stop", "leave"):
            if link := self._links.get(entry.agent):
                if entry.kind == "stop":
                    link.forget(entry.question)
                else:
                    link.hang_up("It has connected again.")
        elif call := self._calls.get(entry.question):
            call.deliver(_reply_of(entry), entry.agent)

    def _answer(self, entry: InboxEntry) -> None:
        """Put another instance's question to an agent of ours."""
        if link := self._links.get(entry.agent):
            forwarder = ReplyForwarder(self._pool, entry.sender, entry.agent)
            link.ask(entry.question, entry.text, forwarder)
        else:
            self._pool.leave([entry.agent])
            self._pool.post(entry.sender, "gone", entry.agent, entry.question)


def _no_agent() -> NoAgent:
    return NoAgent("No available clients", retry_after=1)


def _reply_of(entry: InboxEntry) -> AgentReply:
    """An agent's reply, as it came from another instance."""
    facts = {"question": entry.question, "kind": entry.kind, "at": entry.at, "text": entry.text}
    return msgspec.convert(facts, AgentReply)
