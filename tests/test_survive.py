"""The promises of a turn, across instances: once, one at a time, resumable, crash-proof."""

import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, Stream, wait_until
from tests.test_bad_input import assert_error


@pytest.fixture(scope="module")
def one(start_function: Any) -> Function:
    return start_function(KEEPALIVE_SECONDS="0.3")


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


@pytest.fixture(scope="module")
def other(start_function: Any) -> Function:
    """A second instance on the same Redis."""
    return start_function(KEEPALIVE_SECONDS="0.3")


@pytest.fixture
def b(other: Function) -> Client:
    return other.client


def _start(
    client: Client, chat_id: str, content: str = "x", **headers: str
) -> tuple[Stream, dict[str, Any]]:
    stream = client.stream(f"/{chat_id}/chat", {"content": content, "stream": True}, **headers)
    return stream, stream.next().data


def _text(events: list[Any]) -> str:
    return "".join(e.data["text"] for e in events if e.name == "delta")


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_message_is_not_said_twice(
    client: Client, b: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    first = client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k1")
    for other in (client, b):
        again = other.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k1")
        assert (again.status, again.body, again.headers["ETag"]) == (200, first.body, '"2"')
    assert len(model.requests) == 1
    assert (
        b.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k2").json["id"]
        != first.json["id"]
    )
    assert len(client.get(f"/{chat_id}/chat").json) == 4


def test_a_repeat_of_a_stream_gets_the_same_stream(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    body = {"content": "x", "stream": True}
    first = client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").events
    again = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k").events
    assert _text(again) == _text(first) and again[-1] == first[-1] and again[0] == first[0]
    assert len(model.requests) == 1


def test_a_repeat_joins_the_turn_that_still_runs(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["one ", "two"], gate=gate), Answer(pieces=["never"]))
    stream, started = _start(client, chat_id, Idempotency_Key="k")
    with ThreadPoolExecutor(2) as pool:
        body = {"content": "x", "stream": True}
        joined = pool.submit(lambda: b.post(f"/{chat_id}/chat", body, Idempotency_Key="k"))
        time.sleep(0.5)
        gate.set()
        events = joined.result().events
    assert events[0].data == started
    assert (_text(events), events[-1].name) == ("one two", "completed")
    assert stream.rest()[-1].data == events[-1].data and len(model.requests) == 1


def test_a_repeat_waits_for_the_answer_of_the_turn_that_still_runs(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["slow"], hang=0.8), Answer(pieces=["never"]))
    with ThreadPoolExecutor(3) as pool:
        replies = list(
            pool.map(
                lambda c: c.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k"),
                [client, b, b],
            )
        )
    assert {r.body for r in replies} == {replies[0].body} and replies[0].json["content"] == "slow"
    assert len(model.requests) == 1


def test_the_same_key_with_another_body_is_a_conflict(client: Client, chat_id: str) -> None:
    client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k")
    assert_error(
        client.post(f"/{chat_id}/chat", {"content": "y"}, Idempotency_Key="k"),
        409,
        "idempotency_conflict",
        "Idempotency-Key",
    )
    assert client.post(f"/{chat_id}-2/chat", {"content": "y"}, Idempotency_Key="k").status == 200, (
        "keys are per chat"
    )


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_bad_key_is_named(client: Client, chat_id: str, key: str) -> None:
    assert_error(
        client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key=key),
        400,
        "invalid_field",
        "Idempotency-Key",
    )


def test_a_turn_that_failed_may_be_tried_again_with_its_key(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no"))
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k").status == 502
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k").status == 200


def test_the_retries_of_the_openai_sdks_are_known_by_their_count(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    def send(attempt: int) -> Any:
        return client.post(
            f"/{chat_id}/chat", {"content": "yes"}, X_Stainless_Retry_Count=str(attempt)
        ).json["id"]

    first = send(0)
    assert send(1) == first and send(2) == first
    second = send(0)
    assert second != first, "a person may say the same thing twice"
    assert send(1) == second and len(model.requests) == 2


# --- not on stale ground --------------------------------------------------------------------------


def test_if_match_lets_a_turn_run_only_on_what_its_device_has_seen(
    client: Client, b: Client, chat_id: str
) -> None:
    etag = client.say(chat_id, "one").headers["ETag"]
    assert b.post(f"/{chat_id}/chat", {"content": "two"}, If_Match=etag).status == 200
    stale = client.post(f"/{chat_id}/chat", {"content": "three"}, If_Match=etag)
    history = client.get(f"/{chat_id}/chat").json
    assert (stale.status, stale.code, stale.headers["ETag"]) == (412, "chat_changed", '"4"')
    assert stale.json["messages"] == history[2:] and len(history) == 4
    assert (
        client.post(f"/{chat_id}/chat", {"content": "three"}, If_Match=stale.headers["ETag"]).status
        == 200
    )


def test_if_match_may_name_the_empty_chat_and_anything(client: Client, chat_id: str) -> None:
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"0"').status == 200
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"0"').status == 412
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match="*").status == 200
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"99"').status == 412
    assert_error(
        client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"abc"'),
        400,
        "invalid_field",
        "If-Match",
    )


def test_a_repeat_is_a_repeat_even_when_the_chat_has_moved_on(client: Client, chat_id: str) -> None:
    first = client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"0"', Idempotency_Key="k")
    client.say(chat_id, "y")
    assert (
        client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"0"', Idempotency_Key="k").body
        == first.body
    )


# --- one at a time --------------------------------------------------------------------------------


def test_a_queued_message_waits_its_turn_on_any_instance(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = _start(client, chat_id)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: b.say(chat_id, "next"))
        time.sleep(0.7)
        assert len(model.requests) == 1
        gate.set()
        assert stream.rest()[-1].name == "completed"
        assert waiting.result().status == 200
    assert [m["content"] for m in model.requests[1].body["messages"]] == ["x", "ab", "next"]


def test_waiting_ends_when_the_time_is_over(
    start_function: Any, client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    impatient = start_function(QUEUE_SECONDS="1").client
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    _start(client, chat_id)
    began = time.monotonic()
    assert_error(impatient.say(chat_id, "next"), 409, "turn_in_progress")
    assert 0.9 < time.monotonic() - began < 2


def test_waiting_polls_at_most_twice_a_second_and_ends_when_the_client_leaves(
    start_function: Any, tmp_path: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    redis = RedisServer(tmp_path).start()
    try:
        client = start_function(REDIS_URL=redis.url, LEASE_SECONDS="60").client
        model.enqueue(Answer(pieces=["a", "b"], gate=gate))
        _start(client, chat_id)
        scripts = _script_calls(redis)
        with pytest.raises(Exception, match="timed out"):
            client.request("POST", f"/{chat_id}/chat", {"content": "gone"}, timeout=2.2)
        assert _script_calls(redis) - scripts <= 6
        time.sleep(0.2)
        scripts = _script_calls(redis)
        time.sleep(1.2)
        assert _script_calls(redis) == scripts, "nobody waits any more"
        gate.set()
        assert wait_until(lambda: len(client.get(f"/{chat_id}/chat").json) == 2)
        time.sleep(0.6)
        assert len(model.requests) == 1, "a message whose sender left while it waited is not sent"
    finally:
        redis.stop()


def _script_calls(redis: RedisServer) -> int:
    stats = redis.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


def test_interrupt_keeps_what_was_said_and_goes_on(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["half ", "never"], gate=gate), Answer(pieces=["whole"]))
    stream, _ = _start(client, chat_id)
    assert stream.next().data["text"] == "half "
    assert b.say(chat_id, "stop that", when_busy="interrupt").json["content"] == "whole"
    ended = [e for e in stream.rest() if e.name != ":"]
    assert [e.name for e in ended] == ["cancelled"] and ended[0].data["content"] == "half "
    assert [m["content"] for m in b.get(f"/{chat_id}/chat").json] == [
        "x",
        "half ",
        "stop that",
        "whole",
    ]
    assert [m["content"] for m in model.requests[1].body["messages"]] == ["x", "half ", "stop that"]


def test_rollback_drops_what_was_said_and_goes_on(
    client: Client,
    b: Client,
    model: ModelServer,
    redis_server: RedisServer,
    chat_id: str,
) -> None:
    model.enqueue(Answer(pieces=[f"{n} " for n in range(99)], pause=0.05), Answer(pieces=["whole"]))
    stream, _ = _start(client, chat_id)
    stream.next()
    assert b.say(chat_id, "instead", when_busy="rollback").json["content"] == "whole"
    last = stream.rest()[-1]
    assert (last.name, last.data["error"]["code"]) == ("failed", "turn_in_progress")
    assert [m["content"] for m in b.get(f"/{chat_id}/chat").json] == ["instead", "whole"]
    assert not list(redis_server.client().scan_iter(f"*log:{chat_id}:*"))


# --- stop -----------------------------------------------------------------------------------------


def test_stop_from_another_instance_keeps_what_was_said(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=[f"{n} " for n in range(100)], pause=0.05))
    stream, started = _start(client, chat_id)
    for _ in range(20):
        stream.next()
    began = time.monotonic()
    stopped = b.post(f"/{chat_id}/chat/stop", None)
    assert time.monotonic() - began < 1.5, "within one flush"
    rest = stream.rest()
    assert (stopped.status, stopped.json["status"], stopped.json["id"]) == (
        200,
        "cancelled",
        started["message_id"],
    )
    assert rest[-1].name == "cancelled" and rest[-1].data == stopped.json
    assert stopped.json["content"].startswith("0 1 2 ") and len(stopped.json["content"]) < 280
    assert (
        stopped.headers["ETag"] == '"2"' and client.get(f"/{chat_id}/chat").json[1] == stopped.json
    )
    again = b.post(f"/{chat_id}/chat/stop", None)
    assert (again.status, again.body) == (204, b"")


@pytest.mark.parametrize("same_instance", [False, True])
def test_stop_ends_a_turn_whose_model_is_silent(
    start_function: Any,
    client: Client,
    b: Client,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    same_instance: bool,
) -> None:
    # With so long a lease, the instance hears nothing from Redis for half a minute.
    runner = start_function(LEASE_SECONDS="60").client if same_instance else client
    model.enqueue(Answer(pieces=["said ", "never"], gate=gate))
    stream, _ = _start(runner, chat_id)
    stream.next()
    began = time.monotonic()
    stopped = (runner if same_instance else b).post(f"/{chat_id}/chat/stop", None).json
    assert (stopped["content"], stopped["status"]) == ("said ", "cancelled")
    last = stream.rest()[-1]
    assert (last.name, last.data) == ("cancelled", stopped)
    assert time.monotonic() - began < 10
    assert b.say(chat_id, "y", when_busy="reject").status == 200


def test_stop_ends_an_unstreamed_turn(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["too late"], hang=0.9))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: client.say(chat_id, "x"))
        assert wait_until(lambda: len(model.requests) == 1)
        stopped = b.post(f"/{chat_id}/chat/stop", None)
        assert (stopped.json["status"], stopped.json["content"]) == ("cancelled", "")
        assert waiting.result().json == stopped.json


def test_nothing_running_is_nothing_to_stop(client: Client, chat_id: str) -> None:
    assert client.post(f"/{chat_id}/chat/stop", None).status == 204
    client.say(chat_id, "x")
    assert client.post(f"/{chat_id}/chat/stop", {}).status == 204


def test_deleting_a_chat_stops_its_turn_and_leaves_nothing(
    client: Client, b: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    client.say(chat_id, "x", stream=True)
    client.say(chat_id, "y", stream=True)
    model.enqueue(Answer(pieces=[f"{n} " for n in range(100)], pause=0.05))
    stream, _ = _start(client, chat_id)
    stream.next()
    assert b.request("DELETE", f"/{chat_id}").status == 204
    assert [k for k in redis_server.client().scan_iter() if chat_id.encode() in k] == []
    last = stream.rest()[-1]
    assert last.name == "cancelled"
    assert [k for k in redis_server.client().scan_iter() if chat_id.encode() in k] == []


# --- resume ---------------------------------------------------------------------------------------

LONG = "".join(
    random.Random(7).choice(["a", "é", "😀", "漢", " ", "\n", "👩‍👩‍👧"]) for _ in range(2000)
)[:2000]


def test_every_offset_can_be_resumed_on_another_instance_live_and_afterwards(
    start_function: Any, client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    # A reader that left holds its thread until the next keep-alive; two thousand leave here.
    b = start_function(KEEPALIVE_SECONDS="0.3", THREADS="600").client
    assert len(LONG) == 2000
    cuts = [*sorted(random.Random(3).sample(range(1, 1990), 60)), 1990]
    pieces = [LONG[i:j] for i, j in zip([0, *cuts], [*cuts, 2000], strict=True)]
    model.enqueue(Answer(pieces=pieces, pause=0.01, gate=gate))
    stream, started = _start(client, chat_id)

    def open_at(offset: int) -> Stream:
        if offset % 2:
            path, headers = f"/{chat_id}/chat/stream?after={offset}", {}
        else:
            path = f"/{chat_id}/turns/{started['turn_id']}/stream"
            headers = {"Last_Event_ID": str(offset)}
        reader = b.stream(path, method="GET", **headers)
        first = reader.next()
        assert (first.name, first.id, first.data) == ("started", str(offset), started)
        return reader

    def read_live(offset: int) -> None:
        """Up to what the model has said so far, and away again."""
        reader, text = open_at(offset), LONG[:offset]
        while len(text) < 1990:
            event = reader.next()
            if event.name == "delta":
                text += event.data["text"]
                assert event.id == str(len(text))
        assert text == LONG[:1990]
        reader.leave()

    def read_to_the_end(offset: int) -> None:
        *deltas, last = [e for e in open_at(offset).rest() if e.name != ":"]
        at = offset
        for event in deltas:
            at += len(event.data["text"])
            assert event.id == str(at)
        assert LONG[:offset] + _text(deltas) == LONG
        assert (last.name, last.id, last.data["content"]) == ("completed", "2000", LONG)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(read_live, range(1990)))
        waiting = [pool.submit(read_to_the_end, offset) for offset in range(1990, 2001)]
        time.sleep(0.5)
        gate.set()
        for done in waiting:
            done.result()
        assert _text(stream.rest()) == LONG
        list(pool.map(read_to_the_end, range(2001)))


def test_a_turn_can_be_resumed_after_its_log_is_gone(
    client: Client, b: Client, redis_server: RedisServer, chat_id: str
) -> None:
    events = client.say(chat_id, "x", stream=True).events
    client.say(chat_id, "y")
    turn_id, whole = events[0].data["turn_id"], _text(events)
    for key in redis_server.client().scan_iter(f"*:log:{chat_id}:*"):
        assert 0 < redis_server.client().ttl(key) <= 300
        redis_server.client().delete(key)
    for after in range(len(whole) + 1):
        again = b.get(f"/{chat_id}/turns/{turn_id}/stream?after={after}").events
        assert (_text(again), again[-1].data) == (whole[after:], events[-1].data)
    assert (
        b.get(f"/{chat_id}/chat/stream").events[-1].data["parent_id"]
        != events[-1].data["parent_id"]
    )


def test_a_bad_place_to_resume_at_is_named(client: Client, chat_id: str) -> None:
    assert client.get(f"/{chat_id}/chat/stream").status == 204
    turn = client.say(chat_id, "x", stream=True).events[-1].data
    for after in ("-1", "x", "1.5", "", "9" * 20, str(len(turn["content"]) + 1), "%D9%A3"):
        assert_error(
            client.get(f"/{chat_id}/chat/stream?after={after}"), 400, "invalid_cursor", "after"
        )
        assert_error(
            client.get(f"/{chat_id}/turns/{turn['turn_id']}/stream?after={after}"),
            400,
            "invalid_cursor",
            "after",
        )
    for turn_id in ("turn_0" + "0" * 24, "x", turn["id"], "turn_" + "f" * 32):
        assert_error(
            client.get(f"/{chat_id}/turns/{turn_id}/stream"), 404, "turn_not_found", "turn_id"
        )
    assert_error(
        client.get(f"/{chat_id}-2/turns/{turn['turn_id']}/stream"), 404, "turn_not_found", "turn_id"
    )


def test_a_silent_stream_is_kept_alive_for_its_readers_too(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    _start(client, chat_id)
    reader = b.stream(f"/{chat_id}/chat/stream", method="GET")
    names = [reader.next().name for _ in range(4)]
    assert names == ["started", "delta", ":", ":"]
    gate.set()
    assert reader.rest()[-1].name == "completed"


def test_an_unstreamed_turn_can_be_followed_too(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["slow ", "answer"], hang=0.8))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: client.say(chat_id, "x"))
        assert wait_until(
            lambda: client.get(f"/{chat_id}").status == 200 or len(model.requests) == 1
        )
        events = b.get(f"/{chat_id}/chat/stream").events
        assert (_text(events), events[-1].data) == ("slow answer", waiting.result().json)


def test_how_a_turn_failed_is_told_to_who_resumes_it(
    client: Client, b: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["half ", "an "], cut=True))
    failed = client.say(chat_id, "x", stream=True).events[-1]
    assert b.get(f"/{chat_id}/chat/stream?after=5").events[-1] == failed
    for key in redis_server.client().scan_iter(f"*:log:{chat_id}:*"):
        redis_server.client().delete(key)
    again = b.get(f"/{chat_id}/chat/stream").events
    assert (_text(again), again[-1].name, again[-1].data["message"]) == (
        "half an ",
        "failed",
        failed.data["message"],
    )


# --- crash-proof ----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["reader", "post", "history", "chat", "repeat"])
def test_whoever_comes_next_settles_a_dead_turn(
    start_function: Any, b: Client, model: ModelServer, chat_id: str, who: str
) -> None:
    victim = start_function()
    model.enqueue(Answer(pieces=["what ", "was said ", "never"], gate=threading.Event()))
    stream, started = _start(victim.client, chat_id, Idempotency_Key="k")
    stream.next(), stream.next()
    time.sleep(0.3)  # one flush
    victim.kill()
    if who == "reader":
        events = b.get(f"/{chat_id}/chat/stream").events
        assert (_text(events), events[-1].name) == ("what was said ", "interrupted")
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
    one: Function, b: Client, model: ModelServer, chat_id: str, pytestconfig: pytest.Config
) -> None:
    model.enqueue(Answer(pieces=["x" * 50_000] * 300))
    body = b'{"content": "x", "stream": true}'
    with socket.socket() as phone:
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        phone.connect(("127.0.0.1", one.port))
        head = f"POST /{chat_id}/chat HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        phone.sendall(head.encode() + body)
        assert wait_until(lambda: len(model.requests) == 1)
        assert b.say(chat_id, "y").status == 200
    history = b.get(f"/{chat_id}/chat").json
    # To the relay this client is gone, a thread is stuck in it until the chat is somebody else's.
    carried = pytestconfig.getoption("relay") == "on"
    kept = "completed" if carried else "incomplete"
    assert [m["status"] for m in history[1::2]] == [kept, "completed"]


def test_many_settle_a_dead_turn_once(
    start_function: Any, client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    victim = start_function()
    model.enqueue(Answer(pieces=["said ", "never"], gate=threading.Event()))
    stream, _ = _start(victim.client, chat_id)
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
    stream, _ = _start(frozen.client, chat_id)
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
    stream, _ = _start(leaving.client, chat_id)
    with ThreadPoolExecutor(1) as pool:
        unstreamed = pool.submit(lambda: leaving.client.say(f"{chat_id}-2", "x"))
        assert wait_until(lambda: len(model.requests) == 2)
        os.kill(leaving.pid, signal.SIGTERM)
        began = time.monotonic()
        events = stream.rest()
        assert 5 < time.monotonic() - began < 10
        assert_error(unstreamed.result(), 503, "upstream_unavailable")
    leaving.kill()
    heard = _text(events)
    assert events[-1].name == "interrupted" and events[-1].data["content"] == heard
    assert len(heard.split()) > 100, "it went on for a while"
    assert b.get(f"/{chat_id}/chat").json[1]["content"] == heard
    assert b.get(f"/{chat_id}-2/chat").json == []


# --- Redis away, Redis slow -----------------------------------------------------------------------


def test_a_stream_goes_on_while_redis_is_away_and_is_stored_when_it_is_back(
    start_function: Any, tmp_path: Any, model: ModelServer, chat_id: str
) -> None:
    redis = RedisServer(tmp_path, persist=True).start()
    try:
        client = start_function(
            REDIS_URL=redis.url, LEASE_SECONDS="15", KEEPALIVE_SECONDS="0.3"
        ).client
        client.say("warm", "x")
        pieces = [f"{n} " for n in range(60)]
        model.enqueue(Answer(pieces=pieces, pause=0.05))
        stream, _ = _start(client, chat_id)
        for _ in range(10):
            stream.next()
        os.kill(redis.pid, signal.SIGSTOP)
        began = time.monotonic()
        events = [stream.next() for _ in range(50)]
        assert time.monotonic() - began < 5, "tokens do not wait for Redis"
        busy = time.monotonic()
        assert_error(client.say("other", "x"), 503, "store_unavailable")
        assert time.monotonic() - busy < 2
        time.sleep(1)
        os.kill(redis.pid, signal.SIGCONT)
        events += stream.rest()
        assert events[-1].name == "completed" and events[-1].data["content"] == "".join(pieces)
        assert client.get(f"/{chat_id}/chat").json[1] == events[-1].data
        assert client.get("/other/chat").json == [], (
            "a message that was refused is not stored later"
        )
    finally:
        redis.stop()


def test_a_turn_that_cannot_be_stored_in_time_says_so(
    start_function: Any, tmp_path: Any, model: ModelServer, chat_id: str
) -> None:
    redis = RedisServer(tmp_path, persist=True).start()
    try:
        client = start_function(
            REDIS_URL=redis.url, STORE_PATIENCE_SECONDS="1", KEEPALIVE_SECONDS="0.3"
        ).client
        model.enqueue(Answer(pieces=["a ", "b ", "c"], pause=0.3))
        stream, _ = _start(client, chat_id)
        events = [stream.next(), stream.next()]
        redis.kill()
        events += stream.rest()
        assert _text(events) == "a b c"
        assert (events[-1].name, events[-1].data["error"]["code"]) == (
            "failed",
            "store_unavailable",
        )
        redis.start()
        assert wait_until(
            lambda: (
                client.get(f"/{chat_id}/chat").status == 200 and client.get(f"/{chat_id}/chat").json
            ),
            6,
        )
        assert client.get(f"/{chat_id}/chat").json[1]["status"] == "incomplete"
    finally:
        redis.stop()


def test_preview_shows_what_would_be_sent_and_sends_nothing(
    client: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    client.say(chat_id, "one", system="Be brief.")
    body = {"content": "two", "model": "m"}
    keys = redis_server.client().dbsize()
    preview = client.post(f"/{chat_id}/chat/preview", body).json
    assert len(model.requests) == 1 and redis_server.client().dbsize() == keys
    client.post(f"/{chat_id}/chat", body)
    sent = model.requests[-1].body
    assert (preview["messages"], preview["model"]) == (sent["messages"], sent["model"])
    assert preview["prompt_tokens_estimate"] > 0 and preview["dropped_messages"] == 0
    assert_error(
        client.post(f"/{chat_id}/chat/preview", {"content": ""}), 400, "invalid_field", "content"
    )


def test_old_turns_are_dropped_from_the_prompt_in_blocks_and_never_from_the_history(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(MAX_PROMPT_TOKENS="400").client
    starts = []
    for n in range(40):
        dropped = client.post(f"/{chat_id}/chat/preview", {"content": f"message {n}"}).json[
            "dropped_messages"
        ]
        client.say(chat_id, f"message {n}")
        sent = [m["content"] for m in model.requests[-1].body["messages"]]
        history = [m["content"] for m in client.get(f"/{chat_id}/chat").json]
        assert sent == history[dropped:-1]
        starts.append(dropped)
    assert len(history) == 80 and starts == sorted(starts) and starts[-1] > 40
    assert len(set(starts)) < 12, "the cut moves now and then, not with every turn"


def test_a_chat_is_forgotten_after_its_time(
    start_function: Any, redis_server: RedisServer, model: ModelServer, chat_id: str
) -> None:
    client = start_function(CHAT_TTL_SECONDS="1.5").client
    client.say(chat_id, "x", stream=True)
    time.sleep(0.9)
    client.say(chat_id, "y")
    time.sleep(0.9)
    assert len(client.get(f"/{chat_id}/chat").json) == 4, "every turn begins the time anew"
    assert chat_id in [chat["id"] for chat in client.get("/chats").json["data"]]
    time.sleep(1.0)
    assert client.get(f"/{chat_id}/chat").json == [] and client.get(f"/{chat_id}").status == 404
    assert chat_id not in [chat["id"] for chat in client.get("/chats").json["data"]]
