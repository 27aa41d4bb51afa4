"""Google's APIs on loopback, as far as gcloud asks them for a deploy, and as strict as the world.

It is an HTTP proxy: gcloud is told that the APIs live at `http://<api>.googleapis.test/`, and both
gcloud and curl send what they ask through here, so nothing leaves the machine. A request that
nobody planned for is answered 404 and noted in `unexpected`; `fail` makes the next one fail.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

APIS = (
    "artifactregistry cloudbuild cloudfunctions cloudresourcemanager iam logging monitoring run"
    " secretmanager serviceusage storage"
).split()
OF_A_SERVICE = "googleapis.test"


class Refused(Exception):
    """An API's error: its HTTP status, its reason and its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass(frozen=True)
class Call:
    """One request to an API; `query` has the first value of each name."""

    api: str
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}

    @property
    def name(self) -> str:
        """`run POST /v1/...`, as tests look for it."""
        return f"{self.api} {self.method} {self.path}"

    @property
    def changes(self) -> bool:
        asks = re.search(r":(getIamPolicy|list|testIamPermissions)$", self.path)
        return self.method not in ("GET", "HEAD") and not asks


Handler = Callable[..., Any]


def on(api: str, method: str, path: str) -> Callable[[Handler], Handler]:
    """Marks a method as the answer to these requests; `{name}` stands for one piece of a path."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", path))

    def mark(handler: Handler) -> Handler:
        handler.answers = (api, method, pattern)  # type: ignore[attr-defined]
        return handler

    return mark


class Server:
    """The proxy: what is for an API goes to its handler, anything else to `forward`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.unexpected: list[str] = []
        self._failures: list[tuple[re.Pattern[str], Refused]] = []
        self._routes: list[tuple[str, str, re.Pattern[str], Handler]] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, part: object) -> None:
        """Let what is marked with `on` in this part of the cloud answer."""
        for name, handler in vars(type(part)).items():
            if marks := getattr(handler, "answers", None):
                self._routes.append((*marks, getattr(part, name)))

    def fail(self, name: str, status: int = 403, message: str = "refused by the test") -> None:
        """The next call whose `name` this expression finds is refused."""
        reason = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}[status]
        self._failures.append((re.compile(name), Refused(status, reason, message)))

    def changes(self, since: int = 0) -> list[Call]:
        return [call for call in self.calls[since:] if call.changes]

    def environment(self, folder: Path) -> dict[str, str]:
        """What a gcloud and a curl are started with to come here; their files go to `folder`."""
        return {
            "CLOUDSDK_CONFIG": str(folder),
            "CLOUDSDK_CORE_PROJECT": "my-project",
            "CLOUDSDK_CORE_ACCOUNT": "me@example.com",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "http_proxy": self.address,
            "https_proxy": self.address,
        } | {
            f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}": f"http://{api}.{OF_A_SERVICE}/"
            for api in APIS
        }

    def answer(self, call: Call) -> tuple[int, Any]:
        with self._lock:
            self.calls.append(call)
            for number, (name, refusal) in enumerate(self._failures):
                if name.search(call.name):
                    del self._failures[number]
                    return _error(refusal)
            for api, method, path, handler in self._routes:
                found = path.fullmatch(call.path)
                if found and (api, method) == (call.api, call.method):
                    try:
                        return 200, handler(call, **found.groupdict())
                    except Refused as refusal:
                        return _error(refusal)
            self.unexpected.append(f"{call.name} {call.body[:300]!r}")
            return _error(Refused(404, "NOT_FOUND", f"nobody planned for {call.name}"))

    def forward(self, host: str, call: Call) -> tuple[int, bytes, str]:
        """A request to a host that is no API: (status, body, content type)."""
        self.unexpected.append(f"{call.method} {host}{call.path}")
        return 502, b"no such host", "text/plain"


def _error(refusal: Refused) -> tuple[int, Any]:
    details = {"code": refusal.status, "message": refusal.message, "status": refusal.reason}
    return refusal.status, {"error": details}


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class OneRequest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            host = url.hostname or "?"
            api = re.fullmatch(rf"(?:[a-z]+-[a-z]+\d-)?(\w+)\.{OF_A_SERVICE}", host)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            name = api[1] if api else host
            call = Call(name, self.command, unquote(url.path), query, body, headers)
            if api:
                status, answer = server.answer(call)
                self._send(status, json.dumps(answer).encode(), "application/json")
            else:
                self._send(*server.forward(host, call))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any

        def do_CONNECT(self) -> None:
            server.unexpected.append(f"CONNECT {self.path}")
            self._send(403, b"nothing leaves this machine", "text/plain")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *parts: Any) -> None:
            pass

    return OneRequest
