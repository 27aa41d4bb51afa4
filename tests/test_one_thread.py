"""The same promises where no client's socket can be had: there one thread drives one answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, Stream, start_stream, text_of, wait_until
from tests.tls import self_signed, serve_tls


@pytest.fixture(scope="module")
def werkzeug(start_function: Any) -> Function:
    function: Function = start_function("--debug", KEEPALIVE_SECONDS="0.3", AGENT_KEY="k" * 32)
    return function


@pytest.fixture
def client(werkzeug: Function, model: ModelServer) -> Client:
    return werkzeug.client


def _follow(client: Client, chat_id: str, after: int = 0) -> Stream:
    return client.stream(f"/{chat_id}/chat/stream?after={after}", method="GET")


def test_the_server_is_another(client: Client) -> None:
    assert client.get("/health").headers["Server"].startswith("Werkzeug")


def test_a_stream_comes_piece_by_piece_and_is_stored(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["Hello ", "world"], gate=gate))
    stream, started = start_stream(client, chat_id, X_Request_Id="mine")
    assert stream.next().data["text"] == "Hello "
    gate.set()
    last = stream.rest()[-1]
    assert (last.name, last.data["content"]) == ("completed", "Hello world")
    assert stream.headers["X-Request-Id"] == "mine"
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert client.get(f"/{chat_id}/chat").json[1]["id"] == started["message_id"]


def test_an_unstreamed_answer_has_its_revision(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["all ", "at once"], hang=0.6))
    reply = client.say(chat_id, "x")
    assert (reply.status, reply.json["content"]) == (200, "all at once")
    assert reply.headers["ETag"].endswith('.2"') and "upstream" in reply.headers["Server-Timing"]


def test_silence_is_filled_with_keep_alives(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["late"], hang=1.5))
    events = client.say(chat_id, "x", stream=True).events
    assert [e.name for e in events if e.name != ":"] == ["started", "delta", "completed"]
    assert sum(e.name == ":" for e in events) >= 3


def test_a_stream_is_resumed_at_an_offset_while_it_runs_and_afterwards(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["abc", "def"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    stream.next()
    reader = _follow(client, chat_id, 2)
    assert [reader.next().name, reader.next().data["text"]] == ["started", "c"]
    gate.set()
    assert text_of(reader.rest()) == text_of(stream.rest()) == "def"
    assert text_of(_follow(client, chat_id, 4).rest()) == "ef"


def test_a_stop_keeps_what_was_said(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["said ", "never"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    stream.next()
    assert client.post(f"/{chat_id}/chat/stop", None).json["content"] == "said "
    assert stream.rest()[-1].name == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeat_joins_the_turn_that_runs(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event, stream: bool
) -> None:
    model.enqueue(Answer(pieces=["once ", "only"], gate=gate))
    body = {"content": "x", "stream": stream}

    def send() -> bytes:
        return client.post(f"/{chat_id}/chat", body, Idempotency_Key=chat_id).body

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(send)
        assert wait_until(lambda: len(model.requests) == 1)
        repeats = [pool.submit(send) for _ in range(2)]
        time.sleep(0.5)
        gate.set()
        assert all(b"once only" in sent.result() for sent in (first, *repeats))
    assert len(model.requests) == 1


def test_a_repeat_of_a_turn_that_fails_runs_again(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no", hang=1.0), Answer(pieces=["better"]))

    def send() -> int:
        body = {"content": "x"}
        return client.post(f"/{chat_id}/chat", body, Idempotency_Key=chat_id).status

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send)
        assert wait_until(lambda: len(model.requests) == 1)
        repeat = pool.submit(send)
        assert (first.result(), repeat.result()) == (502, 200)
    assert client.get(f"/{chat_id}/chat").json[1]["content"] == "better"


def test_a_turn_whose_client_leaves_is_stored(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["to the ", "end"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    stream.next()
    stream.leave()
    gate.set()
    assert wait_until(lambda: len(client.get(f"/{chat_id}/chat").json) == 2)
    assert client.get(f"/{chat_id}/chat").json[1]["content"] == "to the end"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_byte_has_its_status(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=400, error="no"))
    reply = client.say(chat_id, "x", stream=stream)
    assert (reply.status, reply.code) == (502, "upstream_refused")
    assert client.get(f"/{chat_id}/chat").json == []


def test_a_model_that_is_overloaded_is_asked_again(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=503, error="busy"), Answer(pieces=["now"]))
    assert client.say(chat_id, "x").json["content"] == "now"


def test_a_model_api_over_tls_is_read_to_its_end(
    start_function: Any, tmp_path: Path, chat_id: str
) -> None:
    certificate = self_signed(tmp_path)
    chunk = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"tls " * 20_000)
    body = chunk * 10 + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    port = serve_tls(certificate, head % len(body) + body)
    url = f"https://localhost:{port}/v1"
    function = start_function("--debug", OPENAI_BASE_URL=url, SSL_CERT_FILE=str(certificate))
    last = function.client.say(chat_id, "x", stream=True).events[-1]
    assert (last.name, last.data["content"]) == ("completed", "tls " * 200_000)


def test_head_of_a_stream_has_its_headers_alone(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "x", stream=True)
    reply = client.request("HEAD", f"/{chat_id}/chat/stream")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Type"] == "text/event-stream"


def test_agents_are_refused_with_the_reason(client: Client) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Authorization": "k" * 32,
    }
    reply = Client(client.base, upgrade).get("/client/register")
    assert reply.status == 403 and "hand over" in reply.json["error"]
