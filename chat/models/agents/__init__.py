"""Machines that dial in and answer questions, on whichever instance they are.

    wire.py         the messages on an agent's socket
    connection.py   what they mean                       (pure, as the one above)
    line.py         an agent of this instance
    call.py         a question to an agent, as a call of the model API
    __main__.py     the reference agent, a program of its own
    this file       brings them together: one for each process

One thread reads this instance's inbox, and shows that it lives. It is there as long as an agent is
connected or a question of ours is with another instance, and a while longer.
"""

import logging
import threading
import time
import uuid
from contextlib import suppress
from functools import partial

from chat.core.errors import NoAgent, StoreUnavailable
from chat.models.agents.call import AgentCall
from chat.models.agents.connection import AgentReply, Connection
from chat.models.agents.line import AgentLink, ReplyForwarder
from chat.models.agents.wire import Question
from chat.store.agent_pool import InboxEntry, LastSeen, Pool

_LINGER_SECONDS = 60.0
_AFTER_FAILURE_SECONDS = 0.5
_TRIES = 5
log = logging.getLogger("chatkeep")


class Agents:
    """Agents of this instance, and calls of agents anywhere."""

    def __init__(
        self, pool: Pool, *, let_in: bool, ping_seconds: float, silence_seconds: float
    ) -> None:
        self.lives_seconds = pool.lives_seconds
        self._pool = pool
        self._let_in = let_in
        self._ping_seconds = ping_seconds
        self._silence_seconds = silence_seconds
        self._lines: dict[str, AgentLink] = {}
        self._calls: dict[str, AgentCall] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._beat_at = self._wanted_until = 0.0

    def ask(self, question: Question, wish: str) -> AgentCall:
        """Give a question to an agent, if possible to the one wished for. Raises NoAgent."""
        if not self._let_in:
            raise _nobody()
        return AgentCall(self, uuid.uuid4().hex, question, wish, self._silence_seconds)

    def new_connection(self) -> Connection:
        return Connection(self._ping_seconds, self._silence_seconds, time.monotonic())

    def attach(self, line: AgentLink) -> None:
        """An agent has dialled in; an older line of the same agent is closed."""
        with self._lock:
            older, self._lines[line.agent] = self._lines.get(line.agent), line
        if older:
            older.hang_up("It has connected again.")
        self._live()
        self._pool.join(line.agent)
        self._beat()

    def withdraw(self, line: AgentLink) -> None:
        """Give it no more questions."""
        if self._lines.get(line.agent) is line:
            with suppress(StoreUnavailable):
                self._pool.leave([line.agent])

    def detach(self, line: AgentLink) -> None:
        """It has hung up."""
        self.withdraw(line)
        with self._lock:
            if self._lines.get(line.agent) is line:
                del self._lines[line.agent]
        line.end()

    def connections(self) -> list[LastSeen]:
        """All agents, of all instances."""
        own = {agent: line.seen() for agent, line in list(self._lines.items())}
        return [own.get(seen.agent, seen) for seen in self._pool.connections()]

    # What a call needs.

    def hand_over(self, call: AgentCall, data: bytes, wish: str, without: str) -> tuple[str, str]:
        self._calls[call.question] = call
        for _ in range(_TRIES):
            if self._pool.knows_others:
                self._live()
            found = self._pool.pick(call.question, data, wish, without)
            if found is None:
                break
            agent, instance = found
            if not agent:
                continue
            if not self.is_here(instance):
                return found
            if line := self._lines.get(agent):
                line.ask(call.question, data.decode(), partial(call.deliver, agent=agent))
                return found
            self._pool.leave([agent])
        raise _nobody()

    def is_here(self, instance: str) -> bool:
        return instance == self._pool.instance

    def is_alive(self, instance: str) -> bool:
        return self.is_here(instance) or self._pool.is_alive(instance)

    def end(self, call: AgentCall, *, complete: bool) -> None:
        self._calls.pop(call.question, None)
        if complete or not call.agent:
            return
        if self.is_here(call.instance):
            if line := self._lines.get(call.agent):
                line.forget(call.question)
        else:
            with suppress(StoreUnavailable):
                self._pool.post(call.instance, "stop", call.agent, call.question)

    # The inbox.

    def _live(self) -> None:
        """See to it that our inbox is there, and read."""
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
        lines = list(self._lines.values())
        if not self._pool.beat([line.seen() for line in lines]):
            self._pool.open()
            for line in lines:
                self._pool.join(line.agent)
        self._beat_at = time.monotonic() + self._ping_seconds

    def _read(self) -> None:
        while self._goes_on():
            try:
                now = time.monotonic()
                if now >= self._beat_at:
                    self._beat()
                for letter in self._pool.read(max(0.01, self._beat_at - now)):
                    self._open(letter)
            except StoreUnavailable:
                time.sleep(_AFTER_FAILURE_SECONDS)
            except Exception:  # without this thread, no answer of another instance arrives
                log.exception("the agents' inbox failed")
                time.sleep(_AFTER_FAILURE_SECONDS)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._lines or self._calls or time.monotonic() < self._wanted_until:
                return True
            self._thread = None
            with suppress(StoreUnavailable):
                self._pool.close()
            return False

    def _open(self, letter: InboxEntry) -> None:
        if letter.kind == "ask":
            self._answer(letter)
        elif letter.kind in ("stop", "leave"):
            if line := self._lines.get(letter.agent):
                if letter.kind == "stop":
                    line.forget(letter.question)
                else:
                    line.hang_up("It has connected again.")
        elif call := self._calls.get(letter.question):
            call.deliver(_word_of(letter), letter.agent)

    def _answer(self, letter: InboxEntry) -> None:
        """Another instance asks an agent of ours."""
        if line := self._lines.get(letter.agent):
            mail = ReplyForwarder(self._pool, letter.sender, letter.agent)
            line.ask(letter.question, letter.text, mail)
        else:
            self._pool.leave([letter.agent])
            self._pool.post(letter.sender, "gone", letter.agent, letter.question)


def _nobody() -> NoAgent:
    return NoAgent("No available clients", retry_after=1)


def _word_of(letter: InboxEntry) -> AgentReply:
    """What an agent said, as it came from another instance."""
    return AgentReply(letter.question, letter.kind, letter.at, letter.text)  # type: ignore[arg-type]
