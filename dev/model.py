"""A stand-in for the model API: a real HTTP server that speaks Chat Completions.

The demo answers with what it was sent, which shows that the history is replayed. Tests queue other
answers (`enqueue`) and look at the requests that came in (`requests`).
"""

import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """How to answer one request.

    `pieces` are the deltas of the text, `pause` the seconds before each of them. `cut` closes the
    connection after the pieces without an end, `hang` is silent for that many seconds first.
    `raw` replaces the whole body. `gate`, when given, is waited for before the last piece.
    """

    pieces: list[str] = field(default_factory=list)
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    hang: float = 0.0
    cut: bool = False
    raw: bytes | None = None
    finish_reason: str | None = "stop"
    done: bool = True
    gate: threading.Event | None = None


@dataclass
class Asked:
    """One request as it came in; `connection` numbers the TCP connection; times in Unix seconds."""

    body: dict[str, Any]
    headers: dict[str, str]
    connection: int
    path: str
    asked_at: float
    last_piece_at: float = 0.0


def demo_answer(body: dict[str, Any]) -> Answer:
    """Repeat what was sent, word by word."""
    messages = body["messages"]
    asked = [_plain(m["content"]) for m in messages if m["role"] == "user"]
    text = f"You sent {len(messages)} message{'s' if len(messages) > 1 else ''}."
    if len(asked) > 1:
        text += f' First you said: "{asked[0][:200]}"'
    text += f' Now: "{asked[-1][:200]}"' if asked else ""
    return Answer(pieces=re.findall(r"\S+\s*", text), pause=0.03)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    if content is None:  # an answer that only calls tools
        return ""
    return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)


class ModelServer(ThreadingHTTPServer):
    """Serves /v1/chat/completions on loopback until `stop`."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self, port: int = 0, answer: Callable[[dict[str, Any]], Answer] = demo_answer
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer = answer
        self.requests: list[Asked] = []
        self.connections = 0
        self._queue: deque[Answer] = deque()
        self.open_connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def start(self) -> "ModelServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.open_connections):
            connection.close()

    def enqueue(self, *answers: Answer) -> None:
        """Answer the next requests with these, in this order."""
        self._queue.extend(answers)

    def reset(self) -> None:
        self._queue.clear()
        self.requests.clear()

    def next_answer(self, body: dict[str, Any]) -> Answer:
        try:
            return self._queue.popleft()
        except IndexError:
            return self.answer(body)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects is not an error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ModelServer

    def setup(self) -> None:
        super().setup()
        self.server.open_connections.add(self.connection)
        self.server.connections += 1
        self.number = self.server.connections

    def finish(self) -> None:
        self.server.open_connections.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length))
        self.asked = Asked(body, dict(self.headers), self.number, self.path, time.time())
        self.server.requests.append(self.asked)
        answer = self.server.next_answer(body)
        time.sleep(answer.hang)
        if answer.raw is not None:
            self._send(answer.status, answer.raw, answer.headers)
        elif answer.status != 200:
            error = {"message": answer.error, "type": "error", "param": None, "code": None}
            self._send(answer.status, json.dumps({"error": error}).encode(), answer.headers)
        elif body.get("stream"):
            self._stream(body, answer)
        else:
            self._complete(body, answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _complete(self, body: dict[str, Any], answer: Answer) -> None:
        self._wait_for_gate(answer)
        message = {"role": "assistant", "content": "".join(answer.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        whole = json.dumps(
            _head(body) | {"choices": [choice], "usage": _usage(body, answer)}
        ).encode()
        if answer.cut:
            self._start(
                200, {"Content-Type": "application/json", "Content-Length": str(len(whole))}
            )
            self.wfile.write(whole[: len(whole) // 2])
            self._cut()
        else:
            self._send(200, whole, answer.headers)

    def _stream(self, body: dict[str, Any], answer: Answer) -> None:
        self._start(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for data in self._events(body, answer):
            event = f"data: {data}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        if answer.cut:
            self._cut()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _events(self, body: dict[str, Any], answer: Answer) -> Iterator[str]:
        head = _head(body) | {"object": "chat.completion.chunk"}
        yield _chunk(head, {"role": "assistant", "content": ""})
        for at, piece in enumerate(answer.pieces):
            time.sleep(answer.pause)
            if at == len(answer.pieces) - 1:
                self._wait_for_gate(answer)
                self.asked.last_piece_at = time.time()
            yield _chunk(head, {"content": piece})
        if answer.cut:
            return
        if answer.finish_reason:
            yield _chunk(head, {}, answer.finish_reason)
        if (body.get("stream_options") or {}).get("include_usage"):
            yield json.dumps(head | {"choices": [], "usage": _usage(body, answer)})
        if answer.done:
            yield "[DONE]"

    def _wait_for_gate(self, answer: Answer) -> None:
        if answer.gate:
            answer.gate.wait(100)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._start(
            status, {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
        )
        self.wfile.write(body)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "demo"),
    }


def _chunk(head: dict[str, Any], delta: dict[str, str], finish_reason: str | None = None) -> str:
    return json.dumps(
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    )


def _usage(body: dict[str, Any], answer: Answer) -> dict[str, int]:
    prompt = sum(len(_plain(m.get("content")).split()) for m in body["messages"])
    completion = len(answer.pieces)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
