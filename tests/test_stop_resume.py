"""Stopped and resumed from anywhere, at any character."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, Stream, start_stream, text_of, wait_until
from tests.test_bad_input import assert_error
from tests.traces import traces_of


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


# --- stop -----------------------------------------------------------------------------------------


def test_stop_from_another_instance_keeps_what_was_said(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=[f"{n} " for n in range(100)], pause=0.05))
    stream, started = start_stream(client, chat_id)
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
        stopped.headers["ETag"].endswith('.2"')
        and client.get(f"/{chat_id}/chat").json[1] == stopped.json
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
    stream, _ = start_stream(runner, chat_id)
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
    stream, _ = start_stream(client, chat_id)
    stream.next()
    assert b.request("DELETE", f"/{chat_id}").status == 204
    assert traces_of(redis_server, chat_id) == []
    last = stream.rest()[-1]
    assert last.name == "cancelled"
    assert traces_of(redis_server, chat_id) == []


# --- resume ---------------------------------------------------------------------------------------

LONG = "".join(
    random.Random(7).choice(["a", "é", "😀", "漢", " ", "\n", "👩‍👩‍👧"]) for _ in range(2000)
)[:2000]


def test_every_offset_can_be_resumed_on_another_instance_live_and_afterwards(
    start_function: Any, client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    # What a reader that left holds, it holds until the next keep-alive; two thousand leave here.
    b = start_function(KEEPALIVE_SECONDS="0.3", THREADS="600").client
    assert len(LONG) == 2000
    cuts = [*sorted(random.Random(3).sample(range(1, 1990), 60)), 1990]
    pieces = [LONG[i:j] for i, j in zip([0, *cuts], [*cuts, 2000], strict=True)]
    model.enqueue(Answer(pieces=pieces, pause=0.01, gate=gate))
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    started = stream.next()
    mark = started.id.removesuffix(":0")

    def open_at(offset: int) -> Stream:
        headers: dict[str, str] = {}
        if offset % 2:
            path = f"/{chat_id}/chat/stream?after={offset}"
        else:
            path = f"/{chat_id}/turns/{started.data['turn_id']}/stream"
            headers = {"Last_Event_ID": f"{mark}:{offset}"}
        reader: Stream = b.stream(path, method="GET", **headers)
        first = reader.next()
        assert (first.name, first.id) == ("started", f"{mark}:{offset}")
        assert first.data == started.data
        return reader

    def read_live(offset: int) -> None:
        """Up to what the model has said so far, and away again."""
        reader, text = open_at(offset), LONG[:offset]
        while len(text) < 1990:
            event = reader.next()
            if event.name == "delta":
                text += event.data["text"]
                assert event.id == f"{mark}:{len(text)}"
        assert text == LONG[:1990]
        reader.leave()

    def read_to_the_end(offset: int) -> None:
        *deltas, last = open_at(offset).rest()
        at = offset
        for event in deltas:
            at += len(event.data["text"])
            assert event.id == f"{mark}:{at}"
        assert LONG[:offset] + text_of(deltas) == LONG
        assert (last.name, last.id, last.data["content"]) == ("completed", f"{mark}:end", LONG)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(read_live, range(1990)))
        waiting = [pool.submit(read_to_the_end, offset) for offset in range(1990, 2001)]
        time.sleep(0.5)
        gate.set()
        for done in waiting:
            done.result()
        assert text_of(stream.rest()) == LONG
        list(pool.map(read_to_the_end, range(2001)))


def test_a_turn_can_be_resumed_after_its_log_is_gone(
    client: Client, b: Client, redis_server: RedisServer, chat_id: str
) -> None:
    events = client.say(chat_id, "x", stream=True).events
    client.say(chat_id, "y")
    turn_id, whole = events[0].data["turn_id"], text_of(events)
    for key in redis_server.client().scan_iter(f"*:log:{chat_id}:*"):
        assert 0 < redis_server.client().ttl(key) <= 300
        redis_server.client().delete(key)
    for after in range(len(whole) + 1):
        again = b.get(f"/{chat_id}/turns/{turn_id}/stream?after={after}").events
        assert (text_of(again), again[-1].data) == (whole[after:], events[-1].data)
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
    start_stream(client, chat_id)
    reader = b.stream(f"/{chat_id}/chat/stream", method="GET")
    assert [reader.next().name for _ in range(2)] == ["started", "delta"]
    assert all(reader.until(":") for _ in range(2))
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
        assert (text_of(events), events[-1].data) == ("slow answer", waiting.result().json)


def test_how_a_turn_failed_is_told_to_who_resumes_it(
    client: Client, b: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["half ", "an "], cut=True))
    failed = client.say(chat_id, "x", stream=True).events[-1]
    assert b.get(f"/{chat_id}/chat/stream?after=5").events[-1] == failed
    for key in redis_server.client().scan_iter(f"*:log:{chat_id}:*"):
        redis_server.client().delete(key)
    again = b.get(f"/{chat_id}/chat/stream").events
    assert (text_of(again), again[-1].name, again[-1].data["message"]) == (
        "half an ",
        "failed",
        failed.data["message"],
    )


def test_a_message_sent_again_by_who_has_its_end_gets_the_ending_alone(
    client: Client, b: Client, chat_id: str
) -> None:
    body = {"content": "x", "stream": True}
    events = client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").events
    again = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k", Last_Event_ID=events[-1].id)
    assert [(e.name, e.id, e.data) for e in again.events] == [
        ("completed", events[-1].id, events[-1].data)
    ]
    other = b.post(f"/{chat_id}/chat", body, Idempotency_Key="k", Last_Event_ID="0123456789:end")
    assert text_of(other.events) == text_of(events), "that was of another turn"


def test_who_has_the_end_of_a_chat_that_was_deleted_gets_the_first_turn_of_the_next(
    client: Client, b: Client, chat_id: str
) -> None:
    for _ in range(3):
        last = client.say(chat_id, "x", stream=True).events[-1]
    assert client.request("DELETE", f"/{chat_id}").status == 204
    assert b.get(f"/{chat_id}/chat/stream", Last_Event_ID=last.id).status == 204
    events = client.say(chat_id, "anew", stream=True).events
    again = b.get(f"/{chat_id}/chat/stream", Last_Event_ID=last.id).events
    assert [(e.name, e.id) for e in again][:: len(again) - 1] == [
        (e.name, e.id) for e in (events[0], events[-1])
    ]


def test_a_cursor_of_a_turn_that_failed_without_text_leads_to_its_error_and_its_end_to_nothing(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "before")
    model.enqueue(Answer(status=400, error="no", hang=0.8))  # by then the stream has begun
    events = client.say(chat_id, "x", stream=True).events
    started, last = events[0], events[-1]
    assert (started.name, last.name) == ("started", "failed")
    again = b.get(f"/{chat_id}/chat/stream", Last_Event_ID=started.id).events
    assert [(e.name, e.id) for e in again] == [("started", started.id), ("failed", last.id)]
    assert again[-1].data == last.data
    assert b.get(f"/{chat_id}/chat/stream", Last_Event_ID=last.id).status == 204
