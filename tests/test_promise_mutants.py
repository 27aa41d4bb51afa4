"""Lines that no test noticed when they were changed; each test here fails without the line it names."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Function, start_stream, wait_until
from tests.promises import frozen, in_background, keys_of

PAST_ANY_DEADLINE_SECONDS = 2.6


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Any]:
    """Start an instance on a Redis of its own."""

    def start(**settings: str) -> Function:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        function: Function = start_briefly(**own | settings)
        return function

    return start


def lifetimes_ms(redis: RedisServer, chat_id: str, kind: str) -> list[int]:
    client = redis.client()
    return [client.pttl(key) for key in keys_of(redis, chat_id) if f":{kind}:" in key]


def test_a_begin_that_redis_comes_to_too_late_begins_nothing(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    """begin.lua: the deadline."""
    client = start().client
    assert client.say(chat_id, "x").status == 200
    began = time.monotonic()
    with frozen(own_redis):
        assert client.say(chat_id, "y").status == 503
        time.sleep(max(0.0, began + PAST_ANY_DEADLINE_SECONDS - time.monotonic()))
    assert client.get(f"/{chat_id}").json["active_turn"] is None
    assert client.say(chat_id, "z", when_busy="reject").status == 200
    assert len(model.requests) == 2


def test_a_commit_that_redis_comes_to_too_late_stores_nothing(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: Any
) -> None:
    """commit.lua: the deadline."""
    client = start(STORE_PATIENCE_SECONDS="0").client
    client.say("another", "so that Redis knows the scripts")
    model.enqueue(Answer(pieces=["all of ", "it"], gate=gate))
    waiting = in_background(client.say, chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 2)
    time.sleep(0.2)
    with frozen(own_redis):
        gate.set()
        assert waiting.result(20).status == 503
        time.sleep(PAST_ANY_DEADLINE_SECONDS)
    completed = lambda: "completed" in client.get(f"/{chat_id}/chat").body.decode()  # noqa: E731
    assert not wait_until(completed, 1.0), client.get(f"/{chat_id}/chat").body


def test_a_turn_gives_the_history_its_time_to_live(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    """commit.lua: PEXPIRE of the history."""
    client = start(CHAT_TTL_SECONDS="60").client
    for _ in range(2):
        client.say(chat_id, "x")
        (left,) = lifetimes_ms(own_redis, chat_id, "history")
        assert 59_000 < left <= 60_000
        time.sleep(1.1)


def test_a_turn_that_has_begun_gives_its_chat_a_time_to_live(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: Any
) -> None:
    """begin.lua: PEXPIRE of the chat; whoever dies right after would leave it for ever."""
    client = start(CHAT_TTL_SECONDS="60", LEASE_SECONDS="30").client
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    (left,) = lifetimes_ms(own_redis, chat_id, "chat")
    assert 50_000 < left <= 60_000
    gate.set()
    assert stream.rest()[-1].name == "completed"


def test_a_change_of_a_chat_gives_its_history_its_time_to_live(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    """patch.lua: PEXPIRE of the history."""
    client = start(CHAT_TTL_SECONDS="60").client
    client.say(chat_id, "x")
    time.sleep(1.1)
    assert client.request("PATCH", f"/{chat_id}", {"title": "t"}).status == 200
    (left,) = lifetimes_ms(own_redis, chat_id, "history")
    assert 59_000 < left <= 60_000


@pytest.mark.parametrize("how", ["stop", "rollback", "killed"])
def test_a_turn_that_is_ended_from_outside_is_booked_with_what_it_used(
    start: Any, model: ModelServer, chat_id: str, gate: Any, how: str
) -> None:
    """recovery.py: `_estimate`."""
    runner, b = start(LEASE_SECONDS="0.5"), start().client
    model.enqueue(Answer(pieces=["word " * 40, "never"], gate=gate), Answer(status=400, error="no"))
    stream, _ = start_stream(runner.client, chat_id, "y" * 400)
    stream.next()
    time.sleep(0.3)  # one flush
    runner.kill()  # nobody but the one who ends it can book it
    time.sleep(0.7)
    if how == "stop":
        assert b.post(f"/{chat_id}/chat/stop", None).status == 200
    elif how == "rollback":
        assert b.say(chat_id, "z", when_busy="rollback").status == 502
    else:
        assert wait_until(lambda: len(b.get(f"/{chat_id}/chat").json) == 2, 5)
    used = b.get("/me").json["usage"]["day"]
    assert used["prompt_tokens"] >= 100 and used["completion_tokens"] >= 40, used


def test_a_producer_that_is_stuck_in_its_client_loses_the_chat(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    """turn_log.py: a beat only for who has been seen at work (`driven_at`)."""
    long = {"MAX_ANSWER_BYTES": str(16 * 1024 * 1024)}
    runner, b = start(THREADS="1", LEASE_SECONDS="1", **long), start(QUEUE_SECONDS="8").client
    model.enqueue(Answer(pieces=["x" * 50_000] * 160), Answer(pieces=["next"]))
    body = b'{"content": "x", "stream": true}'
    with socket.socket() as phone:
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        phone.connect(("127.0.0.1", runner.port))
        head = f"POST /{chat_id}/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        phone.sendall(head.encode() + b"\r\n\r\n" + body)
        assert wait_until(lambda: len(model.requests) == 1)
        assert b.say(chat_id, "y").json["content"] == "next"
    assert b.get(f"/{chat_id}/chat").json[1]["status"] == "incomplete"
