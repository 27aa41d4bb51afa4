"""An agent's socket, from the handshake to its end.

It keeps its request's thread, which is the only one that says anything to the agent; another one,
the library's, only listens.
"""

import contextlib
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import Request
from simple_websocket import ConnectionClosed, Server

from chat.agents import Agents, wire
from chat.agents.line import Line
from chat.errors import ChatkeepError, InvalidRequest
from chat.shutdown import Shutdown

_MEET_SECONDS = 10.0
_SEND_SECONDS = 10
_LINGER_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_READ_BYTES = 65536
_NORMAL, _GOING_AWAY, _BAD_DATA, _POLICY, _TRY_AGAIN = 1000, 1001, 1007, 1008, 1013


class Session:
    """One agent's socket, from the handshake to its end."""

    def __init__(
        self, agents: Agents, shutdown: Shutdown, request: Request, theirs: Any, max_bytes: int
    ) -> None:
        self._agents = agents
        self._shutdown = shutdown
        self._bell = threading.Event()
        self._wire = _Wire(theirs, self._bell.set)
        try:
            self._socket = Server.accept(
                request.environ | {"gunicorn.socket": self._wire},
                max_message_size=max_bytes,
                thread_class=_Daemon,
                event_class=lambda: self._bell,
            )
        except Exception as problem:  # the library lets through whatever its parser says
            raise InvalidRequest("This is no WebSocket handshake.", param="Upgrade") from problem

    def run(self) -> None:
        code, reason = _NORMAL, ""
        try:
            code, reason = self._talk(self._meet())
        except wire.BadMessage as problem:
            code, reason = _BAD_DATA, str(problem)
        except ChatkeepError as error:
            code, reason = _TRY_AGAIN, error.message
        except (ConnectionClosed, OSError):
            pass
        finally:
            with contextlib.suppress(ConnectionClosed, OSError):
                self._socket.close(code, reason)
            self._wire.hang_up(self._socket.thread)

    def _meet(self) -> Line:
        """Offer an id; the agent takes it, or says which it had before. Raises BadMessage."""
        self._socket.send(wire.write(str(uuid.uuid4()), wire.CONNECTION))
        came = self._socket.receive(timeout=_MEET_SECONDS)
        agent = wire.read(came).id if came is not None else ""
        if not wire.is_agent_id(agent):
            raise wire.BadMessage("The first message must have the connection's id.")
        return Line(agent, self._agents.new_connection(), self._bell.set)

    def _talk(self, line: Line) -> tuple[int, str]:
        """Until either side is gone; the code and reason to close with."""
        try:
            self._agents.attach(line)
            while not line.over:
                self._send(line.step())
                if self._shutdown.has_begun:
                    self._agents.withdraw(line)
                    if not line.busy or self._shutdown.is_time(time.monotonic()):
                        return _GOING_AWAY, "This instance ends; please connect again."
                wait = min(line.due_at() - time.monotonic(), _LOOK_SECONDS)
                self._bell.wait(max(0.0, wait))
                self._bell.clear()
                # Reading clears the bell as well: whatever rang for a step is found by the next one.
                while (came := self._socket.receive(timeout=0)) is not None:
                    self._send(line.hear(came))
            return _POLICY, line.over
        finally:
            self._agents.detach(line)

    def _send(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._socket.send(text)


class _Daemon(threading.Thread):
    """The library's listener; it must not keep the process from ending."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, daemon=True)


class _Wire:
    """The server's socket as the library uses it: whole messages, one at a time, and a soft end."""

    def __init__(self, theirs: socket.socket, ring: Callable[[], None]) -> None:
        self._socket = theirs
        self._ring = ring
        self._sending = threading.Lock()
        self.recv = theirs.recv
        self.fileno = theirs.fileno
        patience = struct.pack("ll", _SEND_SECONDS, 0)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    def send(self, data: bytes) -> None:
        with self._sending:
            self._socket.sendall(data)

    def close(self) -> None:
        """Read on for a while: closing on what was not read would take back our last words."""
        self._ring()  # the library may ring too early, when it does not yet say that it is over
        give_up = time.monotonic() + _LINGER_SECONDS
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while (left := give_up - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(_READ_BYTES):
                    break
        except OSError:
            pass

    def hang_up(self, listener: threading.Thread) -> None:
        """Let the listener come to its end, a moment for the other side to close first."""
        listener.join(1.0)
        if listener.is_alive() and self._socket.gettimeout() is None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        listener.join(_LINGER_SECONDS + 1)
