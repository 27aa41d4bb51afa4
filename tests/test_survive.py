"""Turns survive instances that are killed, frozen, stuck in a client or shut down."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, start_stream, text_of, wait_until
from tests.test_bad_input import assert_error


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


@pytest.mark.parametrize("who", ["reader", "post", "history", "chat", "repeat"])
def test_whoever_comes_next_settles_a_dead_turn(
    start_function: Any, b: Client, model: ModelServer, chat_id: str, who: str
) -> None:
    victim = start_function()
    model.enqueue(Answer(pieces=["what ", "was said ", "never"], gate=threading.Event()))
    stream, started = start_stream(victim.client, chat_id, Idempotency_Key="k")
    stream.next(), stream.next()
    time.sleep(0.3)  # one flush
    victim.kill()
    if who == "reader":
        events = b.get(f"/{chat_id}/chat/stream").events
        assert (text_of(events), events[-1].name) == ("what was said ", "interrupted")
    elif who == "post":
        assert b.say(chat_id, "y").status == 200
        assert [m["content"] for m in model.requests[-1].body["messages"]] == [
            "x",
            "what was said ",
            "y",
        ]
    elif who == "repeat":
        body = {"content": "x", "stream": True}
        events = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k").events
        assert events[0].data == started and events[-1].name == "interrupted"
        assert len(model.requests) == 1
    elif who == "history":
        assert wait_until(lambda: b.get(f"/{chat_id}/chat").json, 5)
    else:
        assert wait_until(
            lambda: (
                b.get(f"/{chat_id}").status == 200 and not b.get(f"/{chat_id}").json["active_turn"]
            ),
            5,
        )
    user, answer = b.get(f"/{chat_id}/chat").json[:2]
    assert (user["role"], user["content"], user["id"]) == ("user", "x", started["user_message_id"])
    assert (answer["content"], answer["status"], answer["id"]) == (
        "what was said ",
        "incomplete",
        started["message_id"],
    )
    assert answer["parent_id"] == user["id"] and answer["turn_id"] == started["turn_id"]


def test_a_client_that_does_not_read_does_not_lock_the_chat(
    start_function: Any, b: Client, model: ModelServer, chat_id: str
) -> None:
    function = start_function(LEASE_SECONDS="15", MAX_ANSWER_BYTES=str(16 * 1024 * 1024))
    model.enqueue(Answer(pieces=["x" * 50_000] * 160))
    body = b'{"content": "x", "stream": true}'
    with socket.socket() as phone:
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        phone.connect(("127.0.0.1", function.port))
        head = f"POST /{chat_id}/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        phone.sendall(head.encode() + body)
        assert wait_until(lambda: len(model.requests) == 1)
        assert b.say(chat_id, "y").status == 200
    newest = b.get(f"/{chat_id}/chat?limit=2").json
    oldest = b.get(f"/{chat_id}/chat?limit=2&before={newest[0]['id']}").json
    assert [page[-1]["status"] for page in (oldest, newest)] == ["completed", "completed"]


def test_many_settle_a_dead_turn_once(
    start_function: Any, client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    victim = start_function()
    model.enqueue(Answer(pieces=["said ", "never"], gate=threading.Event()))
    stream, _ = start_stream(victim.client, chat_id)
    stream.next()
    time.sleep(0.3)
    victim.kill()
    time.sleep(2.1)
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda n: (client, b)[n % 2].get(f"/{chat_id}/chat"), range(32)))
    assert {r.body for r in replies} == {replies[0].body} and len(replies[0].json) == 2


def test_a_frozen_instance_finds_its_turn_settled(
    start_function: Any, b: Client, model: ModelServer, chat_id: str
) -> None:
    frozen = start_function()
    model.enqueue(Answer(pieces=[f"{n} " for n in range(30)], pause=0.1))
    stream, _ = start_stream(frozen.client, chat_id)
    for _ in range(4):
        stream.next()
    os.killpg(frozen.pid, signal.SIGSTOP)
    try:
        time.sleep(2.2)
        interrupted = b.get(f"/{chat_id}/chat").json[1]
        assert interrupted["status"] == "incomplete" and interrupted["content"].startswith("0 1 ")
        assert b.say(chat_id, "y").status == 200
    finally:
        os.killpg(frozen.pid, signal.SIGCONT)
    last = stream.rest()[-1]
    assert (last.name, last.data) == ("interrupted", interrupted)
    assert len(b.get(f"/{chat_id}/chat").json) == 4


def test_a_turn_that_fails_after_it_was_settled_is_not_said_to_have_failed(
    start_function: Any, b: Client, model: ModelServer, chat_id: str
) -> None:
    frozen = start_function(UPSTREAM_TIMEOUT_SECONDS="3")
    model.enqueue(Answer(pieces=["too late"], hang=20))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: frozen.client.say(chat_id, "x"))
        assert wait_until(lambda: len(model.requests) == 1)
        os.killpg(frozen.pid, signal.SIGSTOP)
        time.sleep(2.2)
        settled = b.get(f"/{chat_id}/chat").json[1]
        time.sleep(1)
        os.killpg(frozen.pid, signal.SIGCONT)
        reply = waiting.result()
    assert (reply.status, reply.json) == (200, settled) and settled["status"] == "incomplete"


def test_after_sigterm_nothing_that_was_said_is_lost(
    start_function: Any, b: Client, model: ModelServer, chat_id: str
) -> None:
    leaving = start_function(LEASE_SECONDS="30")
    model.enqueue(Answer(pieces=[f"{n} " for n in range(400)], pause=0.05), Answer(hang=20))
    stream, _ = start_stream(leaving.client, chat_id)
    with ThreadPoolExecutor(1) as pool:
        unstreamed = pool.submit(lambda: leaving.client.say(f"{chat_id}-2", "x"))
        assert wait_until(lambda: len(model.requests) == 2)
        os.kill(leaving.pid, signal.SIGTERM)
        began = time.monotonic()
        events = stream.rest()
        assert 5 < time.monotonic() - began < 10
        assert_error(unstreamed.result(), 503, "upstream_unavailable")
    leaving.kill()
    heard = text_of(events)
    assert events[-1].name == "interrupted" and events[-1].data["content"] == heard
    assert len(heard.split()) > 100, "it went on for a while"
    assert b.get(f"/{chat_id}/chat").json[1]["content"] == heard
    assert b.get(f"/{chat_id}-2/chat").json == []
