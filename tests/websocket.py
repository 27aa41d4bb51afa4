"""An agent's end of a WebSocket, written from the RFC's side and apart from the product's own."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.harness import ADMIN_KEY, Client, as_admin, wait_until

PATH = "/client/register"
AS_AGENT = {"Authorization": ADMIN_KEY}


class Refused(Exception):
    """The server said no before it was a WebSocket."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        self.body = body


class WebSocket:
    """Messages over one connection; `closed` is the code and reason, once it is closed."""

    def __init__(
        self,
        base: str,
        path: str = PATH,
        headers: dict[str, str] | None = None,
        host: str = "",
    ) -> None:
        url = urlsplit(base)
        self.sock = socket.create_connection((url.hostname, url.port), timeout=20)
        self.closed: tuple[int, str] | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._messages: list[str] = []
        self._part = ""
        self._sending = threading.Lock()
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self._write(Request(host=host or url.netloc, target=path, extra_headers=extra))
        self._shake_hands()

    def receive(self, timeout: float = 10.0) -> str | None:
        """The next message; None when the socket is closed. Raises TimeoutError."""
        self.sock.settimeout(timeout)
        while not self._messages and self.closed is None:
            self._read()
        return self._messages.pop(0) if self._messages else None

    def send(self, text: str) -> None:
        self._write(TextMessage(data=text))

    def send_frame(self, text: bytes) -> None:
        """A message of any size, without taking time to mask it: the mask is made of zeros."""
        with self._sending:
            self.sock.sendall(b"\x81\xff" + len(text).to_bytes(8, "big") + bytes(4))
            self.sock.sendall(text)

    def drop(self) -> None:
        """As when the machine loses its network, but that the other side learns of it."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def _write(self, event: Any) -> None:
        with self._sending:
            self.sock.sendall(self._ws.send(event))

    def _shake_hands(self) -> None:
        status, body = 0, b""
        while True:
            self._ws.receive_data(self.sock.recv(65536) or None)
            for event in self._ws.events():
                if isinstance(event, AcceptConnection):
                    self._take_events()
                    return
                if isinstance(event, RejectConnection):
                    status = event.status_code
                    if not event.has_body:
                        raise Refused(status, b"")
                elif isinstance(event, RejectData):
                    body += event.data
                    if event.body_finished:
                        self.sock.close()
                        raise Refused(status, body)

    def _read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        if not data:
            self.closed = self.closed or (1006, "")
            return
        self._ws.receive_data(data)
        self._take_events()

    def _take_events(self) -> None:
        for event in self._ws.events():
            if isinstance(event, TextMessage):
                self._part += event.data
                if event.message_finished:
                    self._messages.append(self._part)
                    self._part = ""
            elif isinstance(event, CloseConnection):
                self.closed = (int(event.code), event.reason or "")
                with self._sending:
                    try:
                        self.sock.sendall(self._ws.send(event.response()))
                    except OSError:
                        pass


class SeedAgent:
    """An agent that knows the old protocol and nothing else, as its document has it.

    `answer` makes the content of a response out of a request's data; it may raise, or take its time.
    """

    def __init__(
        self,
        base: str,
        answer: Callable[[dict[str, Any]], str] | None = None,
        *,
        agent_id: str = "",
        path: str = PATH,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answered = 0
        self.pings = 0
        self.silent = False
        self._answer = answer or (lambda data: f"You said: {data['content']}")
        self.ws = WebSocket(base, path, headers)
        offered = json.loads(self.ws.receive() or "{}")
        assert offered["message"] == "Connection id" and offered["id"]
        self.id = agent_id or offered["id"]
        self._send(self.id, "Connection id", "")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.ws.drop()
        self.thread.join(5)

    def _serve(self) -> None:
        try:
            while (text := self.ws.receive(timeout=600)) is not None:
                message = json.loads(text)
                if message["message"] == "ping":
                    self.pings += 1
                    if not self.silent:
                        self._send(message["id"], "pong", "")
                elif message["message"] == "ChatGptRequest":
                    threading.Thread(target=self._respond, args=(message,), daemon=True).start()
        except (OSError, ValueError):
            pass

    def _respond(self, message: dict[str, Any]) -> None:
        data = json.loads(message["data"])
        self.asked.append(data)
        try:
            content = self._answer(data)
        except Exception as problem:
            self._send(message["id"], "error", "", error=str(problem))
            return
        said = {
            "response_id": f"r-{time.monotonic_ns()}",
            "conversation_id": data["conversation_id"],
            "content": content,
        }
        self._send(message["id"], "ChatGptResponse", json.dumps(said))
        self.answered += 1

    def _send(self, id: str, message: str, data: str, **more: str) -> None:
        try:
            self.ws.send(json.dumps({"id": id, "message": message, "data": data, **more}))
        except Exception:
            pass  # the socket is gone


class Agents:
    """Starts agents, and waits until they are in the pool."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._all: list[SeedAgent] = []

    def start(self, client: Client, answer: Any = None, **options: Any) -> SeedAgent:
        agent = SeedAgent(client.base, answer, headers=AS_AGENT, **options)
        self._all.append(agent)
        assert wait_until(lambda: agent.id in connections(self._client))
        return agent

    def stop(self) -> None:
        for agent in self._all:
            agent.stop()


def is_alone(client: Client, agent_id: str) -> bool:
    """Whether this agent is the only one in the pool."""
    return connections(client) == [agent_id]


def connections(client: Client) -> list[str]:
    reply = as_admin(client.base).get("/api/connections")
    assert reply.status == 200, reply.body
    return [connection["Id"] for connection in reply.json["connections"]]
