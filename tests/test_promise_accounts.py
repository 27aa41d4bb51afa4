"""Whoever ends a turn accounts for it; budgets hold when many come at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, new_user, start_stream, wait_until
from tests.promises import in_background


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Any]:
    """Start an instance with users and these limits, on a Redis of its own."""

    def start(**settings: str) -> Function:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        function: Function = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY, **own | settings)
        return function

    return start


def used_today(user: Client) -> dict[str, Any]:
    usage: dict[str, Any] = user.get("/me").json["usage"]["day"]
    return usage


def mentions(redis: RedisServer, owner: str, chat_id: str) -> list[bytes]:
    """The keys of an owner whose name or value mentions a chat."""
    client, part = redis.client(), chat_id.encode()
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    keys = client.scan_iter(f"*{owner}*", count=1000)
    return [key for key in keys if part in key + repr(read[client.type(key)](key)).encode()]


def test_a_turn_that_delete_takes_away_from_others_is_stopped_and_booked(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    function = start(MAX_CONCURRENT_TURNS="50", DAILY_TOKEN_BUDGET="1000000")
    owner, user = new_user(function.client.base)
    model.answer, usual = (lambda _: Answer(pieces=["w "] * 20, pause=0.02)), model.answer
    try:
        for _ in range(10):
            first = in_background(user.say, chat_id, "x", stream=True)
            time.sleep(0.03)
            rest = [
                in_background(user.say, chat_id, "y", stream=True, when_busy="interrupt"),
                in_background(user.request, "DELETE", f"/{chat_id}"),
            ]
            for future in [first, *rest]:
                future.result(30)
        assert user.request("DELETE", f"/{chat_id}").status == 204
    finally:
        model.answer = usual
    assert wait_until(lambda: used_today(user)["requests"] >= len(model.requests), 3), (
        used_today(user),
        len(model.requests),
    )
    assert mentions(own_redis, owner, chat_id) == []


@pytest.mark.parametrize("how", ["delete", "me", "stop", "rollback", "interrupt"])
def test_whoever_ends_a_running_turn_books_it_and_leaves_nothing_of_it(
    start: Any,
    model: ModelServer,
    own_redis: RedisServer,
    chat_id: str,
    how: str,
    gate: threading.Event,
) -> None:
    function = start(MAX_CONCURRENT_TURNS="2", DAILY_TOKEN_BUDGET="1000000")
    owner, user = new_user(function.client.base)
    model.enqueue(Answer(pieces=["some words of it ", "b"], gate=gate))
    stream, _ = start_stream(user, chat_id, "a question of some words")
    stream.next()
    if how in ("rollback", "interrupt"):
        assert user.say(chat_id, "y", when_busy=how).status == 200
    elif how == "stop":
        assert user.post(f"/{chat_id}/chat/stop", None).status == 200
    else:
        assert user.request("DELETE", "/me" if how == "me" else f"/{chat_id}").status == 204
    gate.set()
    stream.rest()
    if how == "me":
        assert wait_until(lambda: not mentions(own_redis, owner, chat_id))
        return
    count = 2 if how in ("rollback", "interrupt") else 1
    assert wait_until(lambda: used_today(user)["requests"] == count), used_today(user)
    assert used_today(user)["total_tokens"] >= 8, "of its prompt and of what was said"
    user.request("DELETE", f"/{chat_id}")
    assert wait_until(lambda: not mentions(own_redis, owner, chat_id))
    model.enqueue(*[Answer(pieces=["a", "b"], gate=gate)] * 2)
    assert [user.say(f"{chat_id}-{n}", "x").status for n in range(2)] == [200] * 2


def test_the_turns_of_an_owner_that_run_at_once_are_found_in_constant_time(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    function = start(MAX_CONCURRENT_TURNS="1000")
    _, user = new_user(function.client.base)
    count = 160
    usual, model.answer = model.answer, lambda _: Answer(pieces=["a", "b"], gate=gate)
    try:
        with ThreadPoolExecutor(20) as pool:
            say = lambda n: start_stream(user, f"{n}-{chat_id}-{'x' * 100}")[0]  # noqa: E731
            streams = list(pool.map(say, range(count)))
        before = _cpu_seconds(own_redis)
        gate.set()
        endings = [stream.rest()[-1].name for stream in streams]
    finally:
        model.answer = usual
    assert endings == ["completed"] * count
    assert _cpu_seconds(own_redis) - before < 0.3


def _cpu_seconds(redis: RedisServer) -> float:
    """What Redis has computed, without what it has waited for its disk."""
    fields = Path(f"/proc/{redis.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / 100


def test_a_budget_holds_when_many_turns_come_at_once_and_is_settled_at_their_end(
    start: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    function = start(DAILY_TOKEN_BUDGET="1000", MAX_OUTPUT_TOKENS="400")
    _, user = new_user(function.client.base)
    model.enqueue(*[Answer(pieces=["w "] * 10, gate=gate)] * 12)
    waiting = [in_background(user.say, f"{chat_id}-{n}", "x", stream=True) for n in range(12)]
    assert wait_until(lambda: sum(future.done() for future in waiting) >= 10, 4), "are refused"
    assert len(model.requests) == 2, "what two may use is less than 1,000, what three may is more"
    gate.set()
    replies = [future.result(20) for future in waiting]
    refused = [reply for reply in replies if reply.status != 200]
    assert len(refused) == 10
    assert {(reply.status, reply.code) for reply in refused} == {(429, "budget_exhausted")}
    assert 20 <= used_today(user)["total_tokens"] <= 60
    assert user.say(chat_id, "x").status == 200, "what was not used is free again"


def test_what_was_reserved_is_free_again_when_the_model_refused(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    function = start(DAILY_TOKEN_BUDGET="500", MAX_OUTPUT_TOKENS="400")
    _, user = new_user(function.client.base)
    model.enqueue(*[Answer(status=400, error="no")] * 3)
    assert [user.say(chat_id, "x").status for _ in range(4)] == [502, 502, 502, 200]


def test_autocontinue_shares_one_limit_of_the_answer(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    function = start(MAX_OUTPUT_TOKENS="100")
    _, user = new_user(function.client.base)
    model.enqueue(*[Answer(pieces=["word "] * 40, finish_reason="length")] * 6)
    body = {"prompt": "x", "autocontinue": "true"}
    assert user.post("/conversations/new", body).status == 201
    assert [request.body["max_tokens"] for request in model.requests] == [100, 60, 20]


def test_an_unstreamed_turn_that_is_stopped_near_its_end_is_booked_as_what_it_may_have_used(
    start: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    function = start(MAX_OUTPUT_TOKENS="400", DAILY_TOKEN_BUDGET="100000")
    _, user = new_user(function.client.base)
    model.enqueue(Answer(pieces=["word"] * 400, gate=gate))
    waiting = in_background(user.say, chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 1)
    time.sleep(0.3)
    assert user.post(f"/{chat_id}/chat/stop", None).status == 200
    gate.set()
    waiting.result(20)
    assert wait_until(lambda: used_today(user)["total_tokens"] >= 399, 2), used_today(user)


def test_the_model_call_for_a_title_is_booked(start: Any, model: ModelServer, chat_id: str) -> None:
    function = start(TITLES="model", DAILY_TOKEN_BUDGET="100000")
    _, user = new_user(function.client.base)
    model.enqueue(Answer(pieces=["one ", "two"]), Answer(pieces=["A ", "good ", "title"]))
    said = user.say(chat_id, "a question of five words").json["usage"]["total_tokens"]
    assert wait_until(lambda: user.get(f"/{chat_id}").json["title"] == "A good title")
    asked = model.requests[1].body["messages"]
    title = sum(len(message["content"].split()) for message in asked) + 3
    assert wait_until(lambda: used_today(user)["total_tokens"] == said + title, 2), (
        used_today(user),
        said + title,
    )
