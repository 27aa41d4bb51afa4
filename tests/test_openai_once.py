"""Retries of clients that do not say that they retry: one turn, one bill."""

import json
import socket
import threading
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, wait_until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}


def post_raw(function: Function, chat_id: str, body: Any = BODY) -> socket.socket:
    """Send a request whose answer nobody reads yet."""
    data = json.dumps(body).encode()
    sock = socket.create_connection(("127.0.0.1", function.port))
    head = f"POST /{chat_id}/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    sock.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return sock


def questions(client: Client, chat_id: str) -> list[str]:
    return [m["content"] for m in client.get(f"/{chat_id}/chat").json[::2]]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_came_while_the_same_one_ran_joins_it(
    function: Function,
    client: Client,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    stream: bool,
) -> None:
    body = BODY | {"stream": stream}
    model.enqueue(Answer(["Hel", "lo"], gate=gate))
    first = post_raw(function, chat_id, body)
    assert wait_until(lambda: model.requests)
    again: list[Any] = []
    thread = threading.Thread(
        target=lambda: again.append(client.post(f"/{chat_id}/v1/chat/completions", body))
    )
    thread.start()
    first.close()
    gate.set()
    thread.join(20)
    assert again[0].status == 200 and (b"Hello" in again[0].body or stream)
    assert len(model.requests) == 1 and questions(client, chat_id) == ["Hello"]


def test_an_answer_that_was_not_delivered_is_given_once_more_and_not_twice(
    function: Function, client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(["one"], gate=gate), Answer(["two"]))
    first = post_raw(function, chat_id)
    assert wait_until(lambda: model.requests)
    first.close()
    gate.set()
    assert wait_until(lambda: len(client.get(f"/{chat_id}/chat").json) == 2)
    path = f"/{chat_id}/v1/chat/completions"
    answers = [client.post(path, BODY).json["choices"][0]["message"]["content"] for _ in range(2)]
    assert answers == ["one", "two"]
    assert len(model.requests) == 2 and questions(client, chat_id) == ["Hello", "Hello"]


def test_the_same_words_after_a_delivered_answer_are_a_new_turn(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    for _ in range(2):
        assert client.post(f"/{chat_id}/v1/chat/completions", BODY).status == 200
    assert questions(client, chat_id) == ["Hello", "Hello"]


def test_a_counted_retry_is_the_same_turn_though_it_was_delivered(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    path = f"/{chat_id}/v1/chat/completions"
    made = [client.post(path, BODY, x_stainless_retry_count=str(n)).json["id"] for n in (0, 1, 2)]
    assert len(set(made)) == 1 and questions(client, chat_id) == ["Hello"]


def test_a_retry_of_a_failed_turn_runs(client: Client, model: ModelServer, chat_id: str) -> None:
    model.enqueue(Answer(status=400, error="no"), Answer(["yes"]))
    path = f"/{chat_id}/v1/chat/completions"
    assert client.post(path, BODY, x_stainless_retry_count="0").status == 502
    assert client.post(path, BODY, x_stainless_retry_count="1").status == 200
    assert questions(client, chat_id) == ["Hello"]


def test_a_key_is_a_key(client: Client, model: ModelServer, chat_id: str) -> None:
    path = f"/{chat_id}/v1/chat/completions"
    made = [client.post(path, BODY, idempotency_key="k").json["id"] for _ in range(2)]
    assert len(set(made)) == 1
    other = client.post(path, {"messages": [{"role": "user", "content": "x"}]}, idempotency_key="k")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert other.headers["x-should-retry"] == "false"
