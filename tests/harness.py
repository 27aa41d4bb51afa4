"""Real processes for the tests: the function as its host runs it, and a client for its streams."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from chat.web.apis.account import AccountRoutes
from chat.web.apis.admin import AdminRoutes
from chat.web.apis.agents import AgentRoutes
from chat.web.apis.ask import AskRoutes
from chat.web.apis.completion import CompletionRoutes
from chat.web.apis.conversations import ConversationsRoutes
from chat.web.apis.native import NativeRoutes
from chat.web.apis.openai import openai_routes
from chat.web.routes import Route

ROOT = Path(__file__).resolve().parent.parent
UPSTREAM_KEY = "sk-test-0123456789abcdef0123456789abcdef"
# In no log and no dump: these keys, encryption keys, any user's key.
ADMIN_KEY = "admin-0123456789abcdef0123456789abcdef"
ENCRYPTION_KEYS = ("ab" * 32, "cd" * 32)


def all_routes() -> list[Route]:
    """Every route but /openapi.json, with handlers that are not connected to anything."""
    nothing: Any = None
    return [
        *NativeRoutes(nothing, nothing, nothing, nothing, nothing).routes(),
        *ConversationsRoutes(nothing, nothing, nothing, nothing).routes(),
        *AskRoutes(nothing, nothing, nothing, nothing).routes(),
        *CompletionRoutes(nothing, nothing, nothing, nothing).routes(),
        *openai_routes(nothing, nothing, nothing, nothing, nothing),
        *AccountRoutes(nothing).routes(),
        *AgentRoutes(nothing, nothing, nothing, nothing, nothing, 0).routes(),
        *AdminRoutes(nothing, nothing, 0).routes(),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list["Event"]:
        return list(parse_events(iter([self.body])))


@dataclass
class Event:
    """One server-sent event; a comment has the name ":"."""

    name: str = ""
    id: str = ""
    data: Any = None


def parse_events(pieces: Iterator[bytes]) -> Iterator[Event]:
    """A reader of text/event-stream written apart from the product's own."""
    buffer = b""
    event: Event | None = None
    for piece in pieces:
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b":"):
                yield Event(":")
            elif not line:
                if event:
                    yield event
                event = None
            else:
                event = event or Event()
                name, _, value = line.decode().partition(": ")
                if name == "event":
                    event.name = value
                elif name == "id":
                    event.id = value
                elif name == "data":
                    event.data = json.loads(value)


@dataclass
class Client:
    """An app that talks to the function over HTTP."""

    base: str
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = urllib3.PoolManager(maxsize=128, retries=False)

    def request(
        self, method: str, path: str, body: Any = None, *, timeout: float = 30.0, **headers: str
    ) -> Reply:
        return self._reply(method, path, body, headers, timeout)

    def get(self, path: str, **headers: str) -> Reply:
        return self._reply("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self._reply("POST", path, body, headers)

    def say(self, chat_id: str, content: Any, **fields: Any) -> Reply:
        return self.post(f"/{chat_id}/chat", {"content": content, **fields})

    def stream(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> "Stream":
        return Stream(self._send(method, path, body, headers, 30.0))

    def _reply(
        self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float = 30.0
    ) -> Reply:
        response = self._send(method, path, body, headers, timeout)
        return Reply(response.status, response.headers, response.read())

    def _send(
        self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float
    ) -> Any:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.request(
            method,
            self.base + path,
            body=data,
            headers=self.headers | names,
            preload_content=False,
            timeout=timeout,
        )


def as_admin(base: str) -> Client:
    return Client(base, {"Authorization": ADMIN_KEY})


def new_user(base: str, **limits: Any) -> tuple[str, Client]:
    user_id = f"user-{uuid.uuid4().hex[:12]}"
    made = as_admin(base).post("/admin/users/add", {"user_id": user_id, **limits})
    assert made.status == 200, made.body
    return user_id, Client(base, {"Authorization": f"Bearer {made.json['token']}"})


class Stream:
    """An answer that is read event by event; `leave` drops the connection as a phone does.

    Keep-alives are passed over, however many there are, unless one waits `until` the next.
    """

    def __init__(self, response: Any) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers
        self.events = parse_events(response.stream(65536))

    def next(self) -> Event:
        return next(event for event in self.events if event.name != ":")

    def until(self, name: str) -> Event:
        return next(event for event in self.events if event.name == name)

    def rest(self) -> list[Event]:
        return [event for event in self.events if event.name != ":"]

    def leave(self) -> None:
        connection = self.response.connection
        if connection and connection.sock:
            connection.sock.shutdown(socket.SHUT_RDWR)
        self.response.close()


def start_stream(
    client: Client, chat_id: str, content: str = "x", **headers: str
) -> tuple[Stream, dict[str, Any]]:
    """Say something; the stream, and the data of its first event."""
    stream = client.stream(f"/{chat_id}/chat", {"content": content, "stream": True}, **headers)
    return stream, stream.next().data


def text_of(events: list[Any]) -> str:
    """What the deltas among them say."""
    return "".join(e.data["text"] for e in events if e.name == "delta")


class Function:
    """`functions-framework --target=main` as a process of its own.

    With `--debug` the server is Werkzeug's, which keeps its clients' sockets to itself.
    """

    def __init__(self, environment: dict[str, str], log: Path, *arguments: str) -> None:
        self.port = free_port()
        self.log = log
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self._environment = clean_environment() | environment
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, *, wait: bool = True) -> "Function":
        command = [sys.executable, "-m", "functions_framework", "--target=main", "--host=127.0.0.1"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--port={self.port}", *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_up() if wait else None
        return self

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            try:
                self.client.request("OPTIONS", "/health", timeout=2)
                return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.02)
        raise RuntimeError(f"the function did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """SIGTERM, as the platform does, and SIGKILL if it takes too long."""
        if "--debug" in self._arguments:
            self.kill()  # its reloader would leave the server behind
        elif self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and its worker."""
        if self._process:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait(10)


StartFunction = Callable[..., Function]  # with settings as keywords


def threads_of(function: Function) -> int:
    """How many threads its busiest process has; 0 where the system does not say."""
    tasks = Path(f"/proc/{function.pid}/task")
    if not tasks.exists():
        return 0
    children = (tasks / str(function.pid) / "children").read_text().split()
    return max(len(os.listdir(f"/proc/{pid}/task")) for pid in [function.pid, *children])


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of ours."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}
