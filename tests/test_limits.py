"""How much an owner may have: counted in Redis, by its clock, once for each turn."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Reply, as_admin, new_user, wait_until

FIVE_MINUTES_AHEAD = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + 300
time.time_ns = lambda: _time_ns() + 300 * 10**9
"""


@pytest.fixture
def start(start_function: Any, model: ModelServer) -> Any:
    """Start an instance with users and these limits; its base URL."""

    def start(**limits: str) -> str:
        base: str = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY, **limits).client.base
        return base

    return start


def assert_limited(reply: Reply, code: str) -> int:
    """Returns Retry-After."""
    assert (reply.status, reply.code) == (429, code), reply.body
    assert reply.json["error"]["message"].startswith("Rate limit exceeded")
    assert int(reply.headers["Retry-After"]) >= 1
    return int(reply.headers["Retry-After"])


def usage_of(client: Client) -> dict[str, Any]:
    usage: dict[str, Any] = client.get("/me").json["usage"]["day"]
    return usage


def test_of_eight_clients_on_two_instances_exactly_a_hundred_turns_pass(
    start: Any, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FIVE_MINUTES_AHEAD)
    a = start(RATE_LIMIT="100/minute")
    b = start(RATE_LIMIT="100/minute", PYTHONPATH=str(tmp_path))
    _, user = new_user(a)
    clients = [Client(base, user.headers) for base in (a, b) * 4]

    def ask(client: Client) -> list[int]:
        return [client.say(uuid.uuid4().hex, "x").status for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for each in pool.map(ask, clients) for status in each]
    assert (statuses.count(200), statuses.count(429)) == (100, 60)
    assert usage_of(user)["requests"] == 100


def test_an_owner_who_comes_with_eight_turns_at_once_is_counted_right(
    start_function: Any, model: ModelServer, own_redis: RedisServer
) -> None:
    settings = {"RATE_LIMIT": "20/hour", "REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
    clients = [start_function(**settings).client for _ in range(2)] * 4
    with ThreadPoolExecutor(8) as pool:
        ask = lambda n: clients[n % 8].say(uuid.uuid4().hex, "x").status  # noqa: E731
        statuses = list(pool.map(ask, range(48)))
    assert (statuses.count(200), statuses.count(429)) == (20, 28)


def test_the_headers_tell_how_far_it_is_to_the_tightest_rate(start: Any, chat_id: str) -> None:
    _, user = new_user(start(RATE_LIMIT="3/minute, 100/hour"))
    for left in (2, 1, 0):
        reply = user.say(chat_id, "x")
        assert reply.headers["RateLimit-Limit"] == "3"
        assert reply.headers["RateLimit-Remaining"] == str(left)
        assert 58 <= int(reply.headers["RateLimit-Reset"]) <= 60
    refused = user.say(chat_id, "x")
    assert assert_limited(refused, "rate_limited") == int(refused.headers["RateLimit-Reset"])
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert len(user.get(f"/{chat_id}/chat").json) == 6, "nothing of it is stored"
    stream = user.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    assert stream.status == 429


def test_retry_after_is_right_to_the_second(start: Any, chat_id: str) -> None:
    _, user = new_user(start(RATE_LIMIT="2/second"))
    while user.say(chat_id, "x").status == 200:
        pass
    wait = assert_limited(user.say(chat_id, "x"), "rate_limited")
    assert wait == 1
    time.sleep(wait)
    assert user.say(chat_id, "x").status == 200


def test_a_message_that_is_sent_again_or_waits_counts_once(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    _, user = new_user(start(RATE_LIMIT="3/hour"))
    for _ in range(3):
        assert user.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k").status == 200
    gate = threading.Event()
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream = user.stream(f"/{chat_id}/chat", {"content": "y", "stream": True})
    stream.next()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(user.say, chat_id, "z")
        time.sleep(1.2)  # it asks Redis again and again
        gate.set()
        assert waiting.result().status == 200
    assert_limited(user.say(chat_id, "x"), "rate_limited")
    assert user.get(f"/{chat_id}/chat").status == user.get("/me").status == 200, "reading is free"


def test_limits_are_the_owners_own(start: Any, chat_id: str) -> None:
    base = start(RATE_LIMIT="1/hour")
    (id_a, a), (_, b), (_, c) = (
        new_user(base),
        new_user(base),
        new_user(base, rate_limit="2/hour", daily_token_budget=0),
    )
    assert [u.say(chat_id, "x").status for u in (a, b, c, c, a, b, c)] == [200] * 4 + [429] * 3
    changed = as_admin(base).request("PATCH", f"/admin/users/{id_a}", {"rate_limit": "3/hour"})
    assert changed.json["limits"]["rate_limit"] == "3/hour"
    assert [a.say(chat_id, "x").status for _ in range(3)] == [200, 200, 429]
    as_admin(base).request("PATCH", f"/admin/users/{id_a}", {"rate_limit": "none"})
    assert a.say(chat_id, "x").status == 200 and a.get("/me").json["limits"]["rate_limit"] == "none"
    as_admin(base).request("PATCH", f"/admin/users/{id_a}", {"rate_limit": None})
    assert a.get("/me").json["limits"]["rate_limit"] == "1/hour"
    listed = {u["user_id"]: u for u in as_admin(base).get("/admin/users").json["users"]}
    assert "rate_limit" not in listed[id_a]


@pytest.mark.parametrize(
    "field, value",
    [("rate_limit", "many"), ("rate_limit", 5), ("rate_limit", "0/hour")]
    + [("daily_token_budget", n) for n in (-1, 1.5, "9", True)]
    + [("max_concurrent_turns", -1)],
)
def test_limits_that_are_none_are_refused(start: Any, field: str, value: Any) -> None:
    base = start()
    reply = as_admin(base).post("/admin/users/add", {field: value})
    assert reply.status == 400 and field in reply.json["error"]


def test_a_budget_ends_at_midnight_utc(start: Any, model: ModelServer, chat_id: str) -> None:
    base = start(DAILY_TOKEN_BUDGET="40")
    _, user = new_user(base)
    said = 0
    while (reply := user.say(chat_id, "some words to say")).status == 200:
        said += reply.json["usage"]["total_tokens"]
    assert said >= 40 and usage_of(user)["total_tokens"] == said
    wait = assert_limited(reply, "budget_exhausted")
    now = datetime.now(UTC)
    left = 86400 - (now.hour * 3600 + now.minute * 60 + now.second)
    assert abs(wait - left) <= 2
    assert reply.headers["RateLimit-Limit"] == "40"
    _, richer = new_user(base, daily_token_budget=10**6)
    assert [richer.say(chat_id, "x" * 300).status for _ in range(3)] == [200] * 3


def test_a_budget_of_all_stops_everybody(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    bases = [
        start(GLOBAL_DAILY_TOKEN_BUDGET="60", REDIS_URL=own_redis.url, REDIS_CLUSTER="no")
        for _ in range(2)
    ]
    users = [new_user(base)[1] for base in bases]
    statuses = [users[n % 2].say(chat_id, "some words to say").status for n in range(20)]
    assert 200 in statuses and statuses == sorted(statuses), "and nobody after that"
    for user in users:
        assert_limited(user.say("another", "x"), "budget_exhausted")


def test_turns_at_once_are_limited_but_a_busy_chat_still_queues(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    _, user = new_user(start(MAX_CONCURRENT_TURNS="2", QUEUE_SECONDS="5"))
    gate = threading.Event()
    model.enqueue(*(Answer(pieces=["a", "b"], gate=gate) for _ in range(2)))
    streams = []
    for n in range(2):
        streams.append(user.stream(f"/{chat_id}-{n}/chat", {"content": "x", "stream": True}))
        streams[-1].next()
    assert assert_limited(user.say(f"{chat_id}-2", "x"), "rate_limited") == 1
    reply = user.say(f"{chat_id}-0", "again", when_busy="interrupt")
    assert reply.status == 200, "it makes its own room"
    gate.set()
    assert [s.rest()[-1].name for s in streams] == ["cancelled", "completed"]
    assert [user.say(f"{chat_id}-{n}", "x").status for n in range(4)] == [200] * 4


def test_turns_of_a_killed_instance_stop_counting(
    start_function: Any, start: Any, model: ModelServer, chat_id: str
) -> None:
    limits = {"MAX_CONCURRENT_TURNS": "1", "AUTH": "keys", "ADMIN_KEY": ADMIN_KEY}
    dying, living = start_function(**limits), start_function(**limits)
    _, user = new_user(living.client.base)
    model.enqueue(Answer(pieces=["a", "b"], hang=20))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(Client(dying.client.base, user.headers).say, f"{chat_id}-1", "x")
        assert wait_until(lambda: len(model.requests) == 1)
        assert_limited(user.say(f"{chat_id}-2", "x"), "rate_limited")
        dying.kill()
    assert wait_until(lambda: user.say(f"{chat_id}-2", "x").status == 200)
    assert [m["status"] for m in user.get(f"/{chat_id}-1/chat").json[1:]] == ["incomplete"]


def test_a_deleted_chat_takes_its_turn_off_the_count(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    _, user = new_user(start(MAX_CONCURRENT_TURNS="1"))
    model.enqueue(Answer(pieces=["a", "b"], gate=threading.Event()))
    user.stream(f"/{chat_id}/chat", {"content": "x", "stream": True}).next()
    assert user.request("DELETE", f"/{chat_id}").status == 204
    assert user.say(f"{chat_id}-2", "x").status == 200
