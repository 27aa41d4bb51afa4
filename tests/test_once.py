"""Once, on no stale ground, and one at a time: what a turn promises to who says something."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, start_stream, text_of, wait_until
from tests.test_bad_input import assert_error


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_message_is_not_said_twice(
    client: Client, b: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    first = client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k1")
    for other in (client, b):
        again = other.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k1")
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["ETag"] == first.headers["ETag"]
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
    assert text_of(again) == text_of(first) and again[-1] == first[-1] and again[0] == first[0]
    assert len(model.requests) == 1


def test_a_repeat_joins_the_turn_that_still_runs(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["one ", "two"], gate=gate), Answer(pieces=["never"]))
    stream, started = start_stream(client, chat_id, Idempotency_Key="k")
    with ThreadPoolExecutor(2) as pool:
        body = {"content": "x", "stream": True}
        joined = pool.submit(lambda: b.post(f"/{chat_id}/chat", body, Idempotency_Key="k"))
        time.sleep(0.5)
        gate.set()
        events = joined.result().events
    assert events[0].data == started
    assert (text_of(events), events[-1].name) == ("one two", "completed")
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
    assert (stale.status, stale.code) == (412, "chat_changed")
    assert stale.headers["ETag"] == client.get(f"/{chat_id}/chat").headers["ETag"]
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
        client.post(f"/{chat_id}/chat", {"content": "x"}, If_Match='"a b"'),
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
    stream, _ = start_stream(client, chat_id)
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
    start_stream(client, chat_id)
    began = time.monotonic()
    assert_error(impatient.say(chat_id, "next"), 409, "turn_in_progress")
    assert 0.9 < time.monotonic() - began < 10, "not the thirty seconds that are usual"


def test_waiting_polls_at_most_twice_a_second_and_ends_when_the_client_leaves(
    start_function: Any, tmp_path: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    redis = RedisServer(tmp_path).start()
    try:
        client = start_function(REDIS_URL=redis.url, LEASE_SECONDS="60").client
        model.enqueue(Answer(pieces=["a", "b"], gate=gate))
        start_stream(client, chat_id)
        with pytest.raises(Exception, match="timed out"):  # now Redis has the scripts
            client.request("POST", f"/{chat_id}/chat", {"content": "gone"}, timeout=0.7)
        time.sleep(0.2)
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
    stream, _ = start_stream(client, chat_id)
    assert stream.next().data["text"] == "half "
    assert b.say(chat_id, "stop that", when_busy="interrupt").json["content"] == "whole"
    ended = stream.rest()
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
    stream, _ = start_stream(client, chat_id)
    stream.next()
    assert b.say(chat_id, "instead", when_busy="rollback").json["content"] == "whole"
    last = stream.rest()[-1]
    assert (last.name, last.data["error"]["code"]) == ("failed", "turn_in_progress")
    assert [m["content"] for m in b.get(f"/{chat_id}/chat").json] == ["instead", "whole"]
    assert not list(redis_server.client().scan_iter(f"*log:{chat_id}:*"))
