"""The queue is a queue: in order of arrival, over all instances, without polling or holding threads."""

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, new_user, start_stream, wait_until
from tests.promises import answers_within, in_background

APART_SECONDS = 0.3
RUNS = 12


def said(client: Client, chat_id: str) -> list[str]:
    return [m["content"] for m in client.get(f"/{chat_id}/chat").json if m["role"] == "user"]


@pytest.fixture
def hold(model: ModelServer, gate: threading.Event) -> Any:
    """Have the model hold so many answers back until the gate opens."""

    def hold(count: int = 1) -> None:
        model.enqueue(*[Answer(pieces=["a", "b"], gate=gate)] * count)

    return hold


def test_messages_are_answered_in_the_order_they_came_whatever_instance_took_them(
    start_briefly: Any, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    clients = [start_briefly(MAX_WAITING_PER_OWNER="100").client for _ in range(2)]
    hold(RUNS)
    chats = [f"{chat_id}-{n}" for n in range(RUNS)]
    streams = [start_stream(clients[n % 2], chat, "m0")[0] for n, chat in enumerate(chats)]
    waiting: list[Future[Any]] = []
    for message in range(1, 5):
        for n, chat in enumerate(chats):
            waiting.append(in_background(clients[(n + message) % 2].say, chat, f"m{message}"))
        time.sleep(APART_SECONDS)
    gate.set()
    assert {future.result(30).status for future in waiting} == {200}
    assert all(stream.rest()[-1].name == "completed" for stream in streams)
    orders = [said(clients[0], chat) for chat in chats]
    assert orders == [["m0", "m1", "m2", "m3", "m4"]] * RUNS


def test_twenty_messages_that_wait_ask_redis_no_more_than_twice_a_second(
    start_briefly: Any, own_redis: RedisServer, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    client = start_briefly(
        REDIS_URL=own_redis.url, REDIS_CLUSTER="no", LEASE_SECONDS="60", MAX_WAITING_PER_OWNER="50"
    ).client
    hold()
    stream, _ = start_stream(client, chat_id)
    waiting = [in_background(client.say, chat_id, f"m{n}") for n in range(20)]
    time.sleep(1.0)
    before = _scripts_run(own_redis)
    time.sleep(2.0)
    assert _scripts_run(own_redis) - before <= 6
    gate.set()
    assert {future.result(30).status for future in waiting} == {200}
    assert stream.rest()[-1].name == "completed"


def _scripts_run(redis: RedisServer) -> int:
    stats = redis.client().info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


@pytest.mark.parametrize("stream", [False, True])
def test_messages_that_wait_hold_no_threads(
    start_briefly: Any, hold: Any, chat_id: str, gate: threading.Event, stream: bool
) -> None:
    client = start_briefly(THREADS="4", MAX_WAITING_PER_OWNER="50").client
    hold()
    running, _ = start_stream(client, chat_id)
    waiting = [in_background(client.say, chat_id, f"m{n}", stream=stream) for n in range(12)]
    time.sleep(0.3)
    began = time.monotonic()
    assert answers_within(4, client, "/health")
    assert in_background(client.say, f"{chat_id}-other", "x").result(10).status == 200
    assert time.monotonic() - began < 4
    gate.set()
    assert {future.result(30).status for future in waiting} == {200}
    assert running.rest()[-1].name == "completed"


def test_an_owner_may_have_only_so_many_messages_waiting(
    start_briefly: Any, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    base = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY, MAX_WAITING_PER_OWNER="3").client.base
    (_, user), (_, other) = new_user(base), new_user(base)
    hold(2)
    running = [start_stream(who, chat_id)[0] for who in (user, other)]
    waiting = []
    for n in range(3):
        waiting.append(in_background(user.say, chat_id, f"m{n}"))
        time.sleep(0.2)
    refused = user.request("POST", f"/{chat_id}/chat", {"content": "one too many"}, timeout=5)
    assert (refused.status, refused.code) == (429, "too_many_waiting")
    assert int(refused.headers["Retry-After"]) >= 1
    waiting.append(in_background(other.say, chat_id, "another owner's"))
    time.sleep(0.2)
    assert not waiting[-1].done()
    gate.set()
    assert {future.result(30).status for future in waiting} == {200}
    assert all(stream.rest()[-1].name == "completed" for stream in running)
    assert user.say(chat_id, "there is room again").status == 200
    assert said(user, chat_id) == ["x", "m0", "m1", "m2", "there is room again"]


def test_who_leaves_the_queue_makes_way_for_those_behind(
    one: Function, b: Client, model: ModelServer, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    hold()
    running, _ = start_stream(one.client, chat_id, "m0")
    with pytest.raises(Exception, match="timed out"):
        one.client.request("POST", f"/{chat_id}/chat", {"content": "left"}, timeout=0.5)
    behind = in_background(b.say, chat_id, "m1")
    time.sleep(0.3)
    gate.set()
    assert behind.result(20).status == 200 and running.rest()[-1].name == "completed"
    assert said(b, chat_id) == ["m0", "m1"]


def test_a_message_that_waited_on_an_instance_that_died_does_not_hold_up_those_behind(
    start_briefly: Any, b: Client, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    victim = start_briefly()
    hold()
    running, _ = start_stream(b, chat_id, "m0")
    lost = in_background(victim.client.say, chat_id, "lost")
    time.sleep(0.5)
    behind = in_background(b.say, chat_id, "m1")
    time.sleep(0.3)
    victim.kill()
    gate.set()
    began = time.monotonic()
    assert behind.result(20).status == 200 and time.monotonic() - began < 8
    assert running.rest()[-1].name == "completed" and said(b, chat_id) == ["m0", "m1"]
    assert lost.exception(20) is not None


def test_messages_that_waited_on_an_instance_that_died_do_not_count_for_ever(
    start_briefly: Any, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY, "MAX_WAITING_PER_OWNER": "3"}
    victim, other = start_briefly(**settings), start_briefly(**settings).client.base
    _, user = new_user(victim.client.base)
    there, here = Client(victim.client.base, user.headers), Client(other, user.headers)
    hold()
    running, _ = start_stream(here, chat_id, "m0")
    lost = [in_background(there.say, chat_id, "lost") for _ in range(3)]
    time.sleep(0.5)
    victim.kill()
    assert all(future.exception(20) for future in lost)

    def waits() -> bool:
        waiting.append(in_background(here.say, chat_id, "m1"))
        time.sleep(0.3)
        return not waiting[-1].done()

    waiting: list[Future[Any]] = []
    assert wait_until(waits, 8), waiting[-1].result().body
    gate.set()
    assert waiting[-1].result(20).status == 200 and running.rest()[-1].name == "completed"
    assert said(here, chat_id) == ["m0", "m1"]


def test_the_messages_that_wait_see_what_was_said_before_them(
    one: Function, b: Client, model: ModelServer, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    hold()
    running, _ = start_stream(one.client, chat_id, "m0")
    waiting = []
    for n in range(1, 3):
        waiting.append(in_background(b.say, chat_id, f"m{n}"))
        time.sleep(APART_SECONDS)
    gate.set()
    assert {future.result(20).status for future in waiting} == {200}
    assert running.rest()[-1].name == "completed"
    asked = [m["content"] for m in model.requests[2].body["messages"] if m["role"] == "user"]
    assert asked == said(b, chat_id) and set(asked) == {"m0", "m1", "m2"}


def test_an_owner_may_have_only_so_many_readers(
    start_briefly: Any, hold: Any, chat_id: str, gate: threading.Event
) -> None:
    base = start_briefly(AUTH="keys", ADMIN_KEY=ADMIN_KEY, MAX_READERS_PER_OWNER="3").client.base
    (_, user), (_, other) = new_user(base), new_user(base)
    hold(2)
    running = [start_stream(who, chat_id)[0] for who in (user, other)]
    readers = [user.stream(f"/{chat_id}/chat/stream", None, "GET") for _ in range(3)]
    assert {reader.status for reader in readers} == {200}
    refused = user.stream(f"/{chat_id}/chat/stream", None, "GET")
    assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
    assert b"too_many_waiting" in refused.response.read()
    readers.append(other.stream(f"/{chat_id}/chat/stream", None, "GET"))
    assert readers[-1].status == 200
    gate.set()
    assert {stream.rest()[-1].name for stream in [*running, *readers]} == {"completed"}
    assert user.get(f"/{chat_id}/chat/stream").status == 200, "there is room again"
