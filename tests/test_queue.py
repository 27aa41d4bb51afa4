"""Messages that wait for the running turn: who is next, whatever happens meanwhile."""

import os
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from chat.core.credentials import ANONYMOUS
from chat.core.messages import ChatRef
from chat.store.keyspace import chat_key
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, Reply, Stream, start_stream, wait_until
from tests.promises import in_background
from tests.test_promise_queue import said

SETTINGS = {"REDIS_CLUSTER": "no", "LEASE_SECONDS": "2"}


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


@pytest.fixture
def running(client: Client, model: ModelServer, chat_id: str, gate: threading.Event) -> Stream:
    """A turn that goes on until the gate opens; the answers after it come at once."""
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id, "m0")
    return stream


def waits(client: Client, chat_id: str, content: str, **fields: Any) -> "Future[Reply]":
    """A message that waits; when this returns, it is in the queue."""
    message = in_background(client.say, chat_id, content, **fields)
    time.sleep(0.3)
    assert not message.done(), message.result().body
    return message


def test_the_next_message_of_the_same_process_begins_at_once(
    client: Client, running: Stream, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    waiting = [waits(client, chat_id, f"m{n}") for n in range(1, 6)]
    gate.set()
    assert running.rest()[-1].name == "completed"
    began = time.monotonic()
    assert [message.result(20).status for message in waiting] == [200] * 5
    assert time.monotonic() - began < 1.0, "five turns one after the other; none has to ask"
    assert said(client, chat_id) == [f"m{n}" for n in range(6)]


def test_who_interrupts_goes_in_front_of_those_that_wait_and_they_keep_their_order(
    client: Client, b: Client, running: Stream, model: ModelServer, chat_id: str, gate: Any
) -> None:
    waiting = [waits(c, chat_id, f"m{n}") for n, c in enumerate((b, client, b), 1)]
    first = b.say(chat_id, "first", when_busy="interrupt")
    assert first.status == 200
    assert running.rest()[-1].name == "cancelled"
    assert [message.result(20).status for message in waiting] == [200] * 3
    assert said(client, chat_id) == ["m0", "first", "m1", "m2", "m3"]


def test_a_later_interruption_stops_an_earlier_one_and_not_the_other_way_round(
    client: Client, b: Client, running: Stream, model: ModelServer, chat_id: str, gate: Any
) -> None:
    model.enqueue(Answer(pieces=["c", "d"], gate=gate))
    body = {"content": "m1", "when_busy": "interrupt", "stream": True}
    first = b.stream(f"/{chat_id}/chat", body)
    assert running.rest()[-1].name == "cancelled" and first.until("delta").data["text"] == "c"
    behind = waits(client, chat_id, "m3")
    assert client.say(chat_id, "m2", when_busy="interrupt").status == 200
    assert first.rest()[-1].name == "cancelled" and behind.result(20).status == 200
    assert said(client, chat_id) == ["m0", "m1", "m2", "m3"]


def test_when_the_chat_is_deleted_those_that_wait_get_404_and_do_not_bring_it_back(
    client: Client, b: Client, running: Stream, model: ModelServer, chat_id: str, gate: Any
) -> None:
    waiting = [waits(c, chat_id, "late") for c in (b, client, b)]
    streamed = in_background(b.say, chat_id, "late", stream=True)
    time.sleep(0.3)
    assert b.request("DELETE", f"/{chat_id}").status == 204
    replies = [message.result(5) for message in waiting]
    assert {(reply.status, reply.code) for reply in replies} == {(404, "chat_not_found")}
    reply = streamed.result(5)
    assert reply.status == 404 or reply.events[-1].data["error"]["code"] == "chat_not_found"
    gate.set()
    running.rest()
    assert client.get(f"/{chat_id}").status == 404 and client.get(f"/{chat_id}/chat").json == []


def test_when_the_running_turn_is_stopped_the_next_begins(
    client: Client, b: Client, running: Stream, chat_id: str
) -> None:
    waiting = [waits(c, chat_id, f"m{n}") for n, c in enumerate((b, client), 1)]
    assert b.post(f"/{chat_id}/chat/stop", None).json["status"] == "cancelled"
    assert running.rest()[-1].name == "cancelled"
    assert [message.result(5).status for message in waiting] == [200, 200]
    assert said(client, chat_id) == ["m0", "m1", "m2"]


def test_when_the_first_turn_fails_the_next_begins(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no", hang=1.0))
    first = in_background(client.say, chat_id, "m0")
    assert wait_until(lambda: len(model.requests) == 1)
    waiting = [in_background(c.say, chat_id, "x") for c in (b, client)]
    assert first.result(10).status == 502
    assert [message.result(5).status for message in waiting] == [200, 200]


def test_when_the_instance_of_the_running_turn_dies_the_next_begins(
    start_briefly: Any, client: Client, b: Client, model: ModelServer, chat_id: str, gate: Any
) -> None:
    victim = start_briefly()
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    start_stream(victim.client, chat_id, "m0")[0].next()
    waiting = [waits(c, chat_id, f"m{n}") for n, c in enumerate((b, client, b), 1)]
    victim.kill()
    assert [message.result(10).status for message in waiting] == [200] * 3
    assert said(client, chat_id) == ["m0", "m1", "m2", "m3"]


def test_a_message_of_an_instance_that_is_frozen_holds_up_nobody_and_waits_on_when_it_thaws(
    start_briefly: Any, b: Client, model: ModelServer, chat_id: str, gate: Any
) -> None:
    frozen = start_briefly()
    model.enqueue(*[Answer(pieces=["a", "b"], gate=gate)] * 2)
    running, _ = start_stream(b, chat_id, "m0")
    lost = [waits(frozen.client, chat_id, f"lost {n}") for n in range(2)]
    behind = waits(b, chat_id, "m1")
    pids = [frozen.pid, *map(int, _children(frozen.pid))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        gate.set()
        assert behind.result(8).status == 200 and running.rest()[-1].name == "completed"
        assert b.say(chat_id, "m2").status == 200
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert [message.result(10).status for message in lost] == [200, 200]
    assert said(b, chat_id) == ["m0", "m1", "m2", "lost 0", "lost 1"]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("stream", [False, True])
def test_after_queue_seconds_the_answer_is_409_and_nothing_is_left_in_the_queue(
    start_briefly: Any,
    own_redis: RedisServer,
    model: ModelServer,
    chat_id: str,
    gate: Any,
    stream: bool,
) -> None:
    client = start_briefly(
        REDIS_URL=own_redis.url, QUEUE_SECONDS="1.5", KEEPALIVE_SECONDS="0.3", **SETTINGS
    ).client
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    running, _ = start_stream(client, chat_id, "m0")
    began = time.monotonic()
    waiting = [waits(client, chat_id, "x", stream=stream) for _ in range(3)]
    replies = [message.result(5) for message in waiting]
    assert {(reply.status, reply.code) for reply in replies} == {(409, "turn_in_progress")}
    assert 1.4 < time.monotonic() - began < 3
    assert own_redis.client().hget(chat_key(ChatRef(ANONYMOUS, chat_id)), "queue") is None
    assert own_redis.client().keys("*:waiting") == []
    gate.set()
    assert running.rest()[-1].name == "completed"


def test_a_shutdown_ends_the_waiting_and_another_instance_goes_on(
    start_briefly: Any, b: Client, model: ModelServer, chat_id: str, gate: Any
) -> None:
    leaving = start_briefly()
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    running, _ = start_stream(b, chat_id, "m0")
    waiting = waits(leaving.client, chat_id, "lost")
    behind = waits(b, chat_id, "m1")
    for pid in _children(leaving.pid):
        os.kill(int(pid), signal.SIGTERM)
    reply = waiting.result(12)
    assert (reply.status, reply.code) == (503, "upstream_unavailable")
    gate.set()
    assert behind.result(5).status == 200 and running.rest()[-1].name == "completed"
    assert said(b, chat_id) == ["m0", "m1"]


def test_messages_wait_in_order_where_no_socket_can_be_had(
    start_function: Any, b: Client, model: ModelServer, chat_id: str, gate: Any
) -> None:
    server = start_function("--debug").client
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    running, _ = start_stream(server, chat_id, "m0")
    waiting = [waits(c, chat_id, f"m{n}") for n, c in enumerate((server, b, server), 1)]
    gate.set()
    assert [message.result(10).status for message in waiting] == [200] * 3
    assert running.rest()[-1].name == "completed"
    assert said(b, chat_id) == ["m0", "m1", "m2", "m3"]
