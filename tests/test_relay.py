"""What only the relay promises: streams without threads, and clients that do not disturb each other."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import (
    Client,
    Function,
    StartFunction,
    Stream,
    parse_events,
    threads_of,
    wait_until,
)
from tests.tls import self_signed, serve_tls


@pytest.fixture(scope="module")
def small(start_function: StartFunction) -> Function:
    """An instance with few threads."""
    return start_function(
        THREADS="4",
        KEEPALIVE_SECONDS="0.3",
        LEASE_SECONDS="15",
        MAX_ANSWER_BYTES=str(16 * 1024 * 1024),
        MAX_PAGE_BYTES=str(32 * 1024 * 1024),
    )


@pytest.fixture
def client(small: Function, model: ModelServer) -> Client:
    return small.client


def _open(client: Client, chat_id: str) -> Stream:
    return client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})


def _dial(function: Function, chat_id: str, protocol: str = "HTTP/1.1") -> socket.socket:
    """A client by hand."""
    body = b'{"content": "x", "stream": true}'
    head = (
        f"POST /{chat_id}/chat {protocol}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    phone = socket.create_connection(("127.0.0.1", function.port), timeout=20)
    phone.sendall(head.encode() + body)
    return phone


def _read_all(phone: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of an answer that ends with its connection."""
    answer = b""
    while piece := phone.recv(65536):
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def test_streams_need_no_threads(
    small: Function, client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(*(Answer(pieces=["here ", "I am"], gate=gate) for _ in range(100)))
    streams = [_open(client, f"{chat_id}-{n}") for n in range(100)]
    for stream in streams:
        assert [stream.next().name for _ in range(2)] == ["started", "delta"]
    assert client.get("/health").status == 200
    assert threads_of(small) < 20
    assert all(stream.until(":") for stream in streams), "all are kept alive"
    gate.set()
    for stream in streams:
        assert stream.rest()[-1].data["content"] == "here I am"


def _is_stored(client: Client, chat_id: str) -> bool:
    return len(client.get(f"/{chat_id}/chat").json) == 2


def test_a_client_that_does_not_read_disturbs_nobody_and_its_turn_is_stored(
    small: Function, client: Client, model: ModelServer, chat_id: str
) -> None:
    # More than the sockets on the way can hold.
    model.enqueue(*(Answer(pieces=["x" * 50_000] * 240) for _ in range(2)))
    phones = [_dial(small, f"{chat_id}-{n}") for n in range(2)]
    assert wait_until(lambda: len(model.requests) == 2)
    assert client.say(f"{chat_id}-reads", "x", stream=True).events[-1].name == "completed"
    for chat in (f"{chat_id}-0", f"{chat_id}-1"):
        assert wait_until(partial(_is_stored, client, chat))
        assert client.get(f"/{chat}/chat").json[1]["status"] == "completed"
    for phone in phones:
        head, body = _read_all(phone)
        assert head.startswith(b"HTTP/1.1 200") and not body.endswith(b"0\r\n\r\n")


def test_a_slow_client_gets_all_of_a_long_answer(
    small: Function, client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["x" * 100_000] * 30, pause=0.02))
    stream = _open(client, chat_id)
    for _ in range(3):
        assert stream.next()
        time.sleep(0.2)
    assert len(stream.rest()[-1].data["content"]) == 3_000_000


def test_a_client_that_has_closed_its_half_still_listens(
    small: Function, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["a", "b", "c"], pause=0.3))
    phone = _dial(small, chat_id)
    phone.shutdown(socket.SHUT_WR)
    body = _read_all(phone)[1]
    assert b"event: completed" in body and body.endswith(b"0\r\n\r\n")


def test_a_client_of_http_1_0_gets_the_bare_stream(
    small: Function, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["a", "b"]))
    head, body = _read_all(_dial(small, chat_id, "HTTP/1.0"))
    assert head.startswith(b"HTTP/1.0 200 OK\r\n") and b"chunked" not in head
    assert [e.name for e in parse_events(iter([body]))] == [
        "started",
        "delta",
        "delta",
        "completed",
    ]


def test_a_carried_answer_has_the_headers_of_every_other(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    path, body = f"/{chat_id}/chat", {"content": "x", "stream": True}
    reply = client.post(path, body, X_Request_Id="mine")
    assert reply.headers["X-Request-Id"] == "mine" and "upstream" in reply.headers["Server-Timing"]
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert (reply.headers["Connection"], reply.headers.getlist("Date")[1:]) == ("close", [])


def test_streams_flow_while_another_model_is_silent(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(*(Answer(pieces=["a", "b"], gate=gate) for _ in range(8)))
    silent = [_open(client, f"{chat_id}-{n}") for n in range(8)]
    assert all(stream.next() for stream in silent)
    model.enqueue(Answer(pieces=[f"{n} " for n in range(50)], pause=0.02))
    began = time.monotonic()
    assert client.say(chat_id, "x", stream=True).events[-1].name == "completed"
    assert time.monotonic() - began < 10


def test_a_model_api_over_tls_is_carried_too(
    start_function: Any, tmp_path: Path, chat_id: str
) -> None:
    certificate = self_signed(tmp_path)
    chunk = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"tls " * 20_000)
    body = chunk * 10 + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    port = serve_tls(certificate, head % len(body) + body)
    client = start_function(
        OPENAI_BASE_URL=f"https://localhost:{port}/v1", SSL_CERT_FILE=str(certificate)
    ).client
    last = client.say(chat_id, "x", stream=True).events[-1]
    assert (last.name, last.data["content"]) == ("completed", "tls " * 200_000)


def test_who_waits_for_a_silent_model_waits_without_a_thread(
    small: Function, client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(*(Answer(pieces=["late"], hang=3.0) for _ in range(24)))
    with ThreadPoolExecutor(24) as pool:
        waiting = [
            pool.submit(client.say, f"{chat_id}-{n}", "x", stream=n % 2 == 0) for n in range(24)
        ]
        assert wait_until(lambda: len(model.requests) == 24, 2.9), "all at once"
        assert not any(done.done() for done in waiting) and client.get("/health").status == 200
        replies = [done.result() for done in waiting]
    assert [r.status for r in replies] == [200] * 24
    assert {r.events[-1].data["content"] for r in replies[::2]} == {"late"}
    assert {r.json["content"] for r in replies[1::2]} == {"late"}
    assert {r.headers["ETag"].partition(".")[2] for r in replies[1::2]} == {'2"'}


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_comes_late_has_its_status_and_the_headers_of_every_other(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=400, error="no", hang=1.4))
    reply = client.post(f"/{chat_id}/chat", {"content": "x", "stream": stream}, X_Request_Id="mine")
    if stream:  # it had to begin before that, with a keep-alive
        assert [e.name for e in reply.events if e.name != ":"] == ["started", "failed"]
    else:
        assert (reply.status, reply.code) == (502, "upstream_refused")
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["X-Request-Id"] == "mine"
