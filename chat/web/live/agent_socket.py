"""An agent's socket, from the handshake to its end: a Source of the relay.

`on_readable` reads frames, and answers what can be answered at once. What takes time, because Redis is
asked, is a task for `work`: `_join`, `_withdraw`, `_send_close`, `_end`, and replies to forward.
"""

import socket
import time
import uuid
from collections.abc import Callable
from functools import partial

from chat.core.errors import ChatkeepError
from chat.host.flow import WORK_DUE, Readable, Wait
from chat.host.relay import Relay
from chat.host.shutdown import Shutdown
from chat.models.agents import Agents, wire
from chat.models.agents.link import AgentLink
from chat.web.live.websocket import Broken, Frames

_HANDSHAKE_SECONDS = 10.0
_LINGER_SECONDS = 5.0
_READ_BYTES = 65536
_GOING_AWAY, _BAD_DATA, _POLICY, _TRY_AGAIN = 1001, 1007, 1008, 1013
_NO_ID = "The first message must have the connection's id."
_SHUTTING_DOWN = "This instance is shutting down; please connect again."


class Session:
    """The connection of one agent.

    The relay writes to the agent's socket, `client`, and closes it; this reads from a copy of its own.
    """

    needs_client = True
    # Questions to an agent that is busy; they are in memory anyway, as long as their turns run.
    max_backlog = 64 * 1024 * 1024

    def __init__(
        self,
        agents: Agents,
        shutdown: Shutdown,
        relay: Relay,
        frames: Frames,
        client: socket.socket,
    ) -> None:
        self.ended = False
        self._agents = agents
        self._shutdown = shutdown
        self._frames = frames
        self._socket = client.dup()
        self._readable = Readable(self._socket.fileno())
        self._wake = partial(relay.wake, self)
        # Offer an id; the agent takes it, or says which it had before.
        offer = wire.write(str(uuid.uuid4()), wire.CONNECTION)
        self._greeting = frames.accept() + frames.write(offer)
        self._link: AgentLink | None = None
        self._task: Callable[[], bytes] | None = None
        self._give_up_at = time.monotonic() + _HANDSHAKE_SECONDS
        self._withdrawn = self._closing = False

    def waits_for(self) -> Wait:
        due = self.ended or self._task or (self._link and self._link.has_work)
        return WORK_DUE if due else self._readable

    def on_readable(self) -> bytes:
        greeting, self._greeting = self._greeting, b""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return greeting + self._on_data(b"")
        except OSError:
            data = b""
        if data:
            return greeting + self._on_data(data)
        self._task = self._end
        return greeting

    def work(self) -> bytes:
        task, self._task = self._task, None
        if task:
            return task()
        assert self._link
        self._link.forward()
        return self._on_data(b"")

    def finish(self) -> None:
        self._detach()
        self._socket.close()

    def _on_data(self, data: bytes) -> bytes:
        """Handle what has come, and what takes no time; the bytes to send."""
        if self._closing:
            self._frames.read_farewell(data)
            if self._frames.closed or time.monotonic() >= self._give_up_at:
                self._task = self._end
            return b""
        try:
            return self._on_frames(data)
        except Broken as problem:
            self._disconnect(problem.code, problem.reason)
        except wire.BadMessage as problem:
            self._disconnect(_BAD_DATA, str(problem))
        return b""

    def _on_frames(self, data: bytes) -> bytes:
        messages, reply = self._frames.read(data)
        texts = [text for message in messages for text in self._on_message(message)]
        if self._frames.closed:
            self._task = self._end
            return reply
        if self._link:
            texts += self._link.step()
        self._check_close()
        return reply + b"".join(map(self._frames.write, texts))

    def _on_message(self, text: str | bytes) -> list[str]:
        if self._link:
            return self._link.on_message(text)
        agent = wire.read(text).id
        if not wire.is_agent_id(agent):
            raise wire.BadMessage(_NO_ID)
        self._link = AgentLink(agent, self._agents.new_connection(), self._wake)
        self._task = self._join
        return []

    def _check_close(self) -> None:
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._give_up_at:
                raise wire.BadMessage(_NO_ID)
        elif link.over:
            self._disconnect(_POLICY, link.over)
        elif self._shutdown.has_begun and not self._withdrawn:
            self._task = self._withdraw
        elif self._withdrawn and (not link.busy or self._shutdown.is_time(now)):
            self._disconnect(_GOING_AWAY, _SHUTTING_DOWN)

    def _join(self) -> bytes:
        assert self._link
        try:
            self._agents.attach(self._link)
        except ChatkeepError as error:
            self._disconnect(_TRY_AGAIN, error.message)
        return b""

    def _withdraw(self) -> bytes:
        """No more questions; it may finish those it has."""
        assert self._link
        self._agents.withdraw(self._link)
        self._withdrawn = True
        return self._on_data(b"")

    def _disconnect(self, code: int, reason: str) -> None:
        self._task = partial(self._send_close, code, reason)

    def _send_close(self, code: int, reason: str) -> bytes:
        self._detach()
        # Then read on for a while: close() with unread input sends RST, which can destroy our last bytes.
        self._closing, self._give_up_at = True, time.monotonic() + _LINGER_SECONDS
        return self._frames.close(code, reason)

    def _end(self) -> bytes:
        self._detach()
        self.ended = True
        return b""

    def _detach(self) -> None:
        link, self._link = self._link, None
        if link:
            self._agents.detach(link)
