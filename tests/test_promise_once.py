"""Once, and never what was taken back: a repeat reruns only what failed and left nothing."""

import json
import threading
import time
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, start_stream, text_of, wait_until
from tests.promises import commands_run, in_background, is_told_so, keys_of


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


def said(client: Client, chat_id: str) -> list[str]:
    return [m["content"] for m in client.get(f"/{chat_id}/chat").json if m["role"] == "user"]


def _say_and_join(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> list[Any]:
    """An unstreamed message, and the same one again on another instance while it is answered."""
    model.enqueue(Answer(pieces=["a"], gate=gate), Answer(pieces=["whole"]))
    body = {"content": "buy it"}
    first = in_background(client.post, f"/{chat_id}/chat", body, Idempotency_Key="k")
    assert wait_until(lambda: len(model.requests) == 1)
    joined = in_background(b.post, f"/{chat_id}/chat", body, Idempotency_Key="k")
    time.sleep(0.5)  # nobody tells when it has joined
    return [first, joined]


def test_a_joined_repeat_does_not_bring_a_deleted_chat_back(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    waiting = _say_and_join(client, b, model, chat_id, gate)
    assert b.request("DELETE", f"/{chat_id}").status == 204
    gate.set()
    first, joined = (future.result(20) for future in waiting)
    assert is_told_so(joined) and is_told_so(first), (first.body, joined.body)
    assert len(model.requests) == 1 and client.get(f"/{chat_id}").status == 404


def test_a_joined_repeat_does_not_run_after_its_turn_was_rolled_back(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    waiting = _say_and_join(client, b, model, chat_id, gate)
    instead = client.say(chat_id, "never mind", when_busy="rollback")
    assert instead.json["content"] == "whole"
    gate.set()
    first, joined = (future.result(20) for future in waiting)
    assert is_told_so(joined) and is_told_so(first), (first.body, joined.body)
    assert said(client, chat_id) == ["never mind"] and len(model.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeat_after_a_rollback_does_not_run(
    client: Client, b: Client, model: ModelServer, chat_id: str, stream: bool, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate), Answer(pieces=["whole"]))
    body = {"content": "buy it", "stream": stream}
    first = in_background(client.post, f"/{chat_id}/chat", body, Idempotency_Key="k")
    assert wait_until(lambda: len(model.requests) == 1)
    assert b.say(chat_id, "never mind", when_busy="rollback").status == 200
    gate.set()
    first.result(20)
    again = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k")
    if again.headers["Content-Type"] == "text/event-stream":
        assert again.events[-1].name == "failed", again.body
    else:
        assert is_told_so(again), again.body
    assert said(client, chat_id) == ["never mind"] and len(model.requests) == 2


@pytest.mark.parametrize("path", ["/{}", "/{}/chat", "/conversations/{}", "/conversations/all"])
def test_a_message_that_was_delivered_does_not_run_again_after_its_chat_was_deleted(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, path: str
) -> None:
    a = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no").client
    body = {"content": "buy it"}
    assert a.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 200
    assert a.request("DELETE", path.format(chat_id)).status == 204
    again = a.post(f"/{chat_id}/chat", body, Idempotency_Key="k")
    assert is_told_so(again), again.body
    assert again.json["error"]["code"] == "chat_not_found", "it is told that the chat is deleted"
    assert len(model.requests) == 1 and a.get(f"/{chat_id}").status == 404
    assert keys_of(own_redis, chat_id) == [], "and that is remembered without naming the chat"
    assert a.post(f"/{chat_id}/chat", body, Idempotency_Key="other").status == 200


@pytest.mark.parametrize(
    "stream",
    [
        False,
        True,
    ],
)
def test_a_repeat_whose_answer_has_vanished_takes_bounded_work_and_does_not_run(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, stream: bool
) -> None:
    function = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no", LOG_SECONDS="1")
    body = {"content": "x", "stream": stream}
    assert function.client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 200
    for key in keys_of(own_redis, chat_id):
        if ":history:" in key or ":log:" in key:
            own_redis.client().delete(key)  # as an eviction does
    before = commands_run(own_redis)
    again = function.client.post(f"/{chat_id}/chat", body, Idempotency_Key="k", timeout=10)
    assert commands_run(own_redis) - before < 80
    assert again.status in (404, 409, 410) or (stream and again.events[-1].name == "failed")
    assert len(model.requests) == 1 and "Traceback" not in function.log.read_text()


def test_the_same_message_encoded_in_another_way_is_the_same_message(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    fields = {"content": "é ☂", "stream": False, "metadata": {"a": 1, "b": [{"c": 2, "d": 3}]}}
    turned = {"metadata": {"b": [{"d": 3, "c": 2}], "a": 1}, "stream": False, "content": "é ☂"}
    bodies = [json.dumps(fields), json.dumps(turned), json.dumps(turned, indent=2)]
    bodies += [json.dumps(fields, ensure_ascii=False), json.dumps(turned, separators=(",", ":"))]
    replies = [
        c.post(f"/{chat_id}/chat", body.encode(), Idempotency_Key="k")
        for body in bodies
        for c in (client, b)
    ]
    assert {reply.status for reply in replies} == {200} and len(model.requests) == 1
    assert {reply.body for reply in replies} == {replies[0].body}


@pytest.mark.parametrize(
    "change",
    [{"content": "y"}, {"model": "another"}, {"metadata": {"a": [2, 1]}}, {"temperature": 1.5}],
)
def test_a_message_that_differs_in_anything_is_another_one(
    client: Client, chat_id: str, change: dict[str, Any]
) -> None:
    body = {"content": "x", "metadata": {"a": [1, 2]}}
    assert client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 200
    other = client.post(f"/{chat_id}/chat", body | change, Idempotency_Key="k")
    assert (other.status, other.code) == (409, "idempotency_conflict")


@pytest.mark.parametrize("running", [True, False])
def test_a_stream_that_is_asked_for_again_goes_on_where_its_client_was(
    client: Client,
    b: Client,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    running: bool,
) -> None:
    model.enqueue(Answer(pieces=["one ", "two ", "three"], gate=gate))
    body = {"content": "x", "stream": True}
    stream = client.stream(f"/{chat_id}/chat", body, Idempotency_Key="k")
    first = stream.until("delta")
    heard = first.data["text"]
    if not running:
        gate.set()
        stream.rest()
    again = b.stream(f"/{chat_id}/chat", body, Idempotency_Key="k", Last_Event_ID=first.id)
    gate.set()
    events = again.rest()
    assert heard + text_of(events) == "one two three" and events[-1].name == "completed"
    assert len(model.requests) == 1


def test_a_failed_stream_that_left_nothing_runs_again_with_its_key(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no"), Answer(pieces=["yes"]))
    body = {"content": "x", "stream": True}
    assert client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 502
    again = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k")
    assert again.events[-1].data["content"] == "yes" and said(b, chat_id) == ["x"]


def test_of_many_repeats_after_a_failure_one_runs(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no"), Answer(pieces=["yes"], hang=0.3))
    body = {"content": "x"}
    assert client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 502
    again = [
        in_background(c.post, f"/{chat_id}/chat", body, Idempotency_Key="k")
        for c in (client, b, client, b)
    ]
    assert {future.result(20).json["content"] for future in again} == {"yes"}
    assert len(model.requests) == 2


def test_a_cancelled_turn_is_answered_as_cancelled_and_does_not_run_again(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id, Idempotency_Key="k")
    stream.next()
    stopped = b.post(f"/{chat_id}/chat/stop", None)
    body = {"content": "x", "stream": True}
    again = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k").events[-1]
    assert (again.name, again.data) == ("cancelled", stopped.json) and len(model.requests) == 1
