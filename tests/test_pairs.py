"""What comes between two commands of a turn: a death, a lost reply, another one first, a full Redis."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from chat.core.messages import ChatRef
from chat.store.vault import Vault
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, new_user, start_stream, wait_until
from tests.promises import in_background, keys_of

CHAT = "ck:{{anonymous}}:chat:{}"
HISTORY = "ck:{{anonymous}}:history:{}"


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Any]:
    """Start an instance on a Redis of its own."""

    def start(**settings: str) -> Function:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        function: Function = start_briefly(**own | settings)
        return function

    return start


def said(client: Client, chat_id: str) -> list[str]:
    return [m["content"] for m in client.get(f"/{chat_id}/chat").json if m["role"] == "user"]


# --- a message waits, and the first turn fails -----------------------------------------------------


def test_messages_keep_their_places_when_the_first_turn_of_a_chat_fails(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    a, b = start().client, start().client
    model.enqueue(Answer(status=400, error="no", hang=0.8))
    first = in_background(a.say, chat_id, "one")
    assert wait_until(lambda: len(model.requests) == 1)
    second = in_background(b.say, chat_id, "two")
    time.sleep(0.2)
    third = in_background(a.say, chat_id, "three")
    assert first.result(20).status == 502
    assert (second.result(20).status, third.result(20).status) == (200, 200)
    assert said(a, chat_id) == ["two", "three"]


def test_a_chat_that_is_made_anew_by_a_message_that_waited_lives_for_ever(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    a, b = start().client, start().client
    model.enqueue(Answer(status=400, error="no", hang=0.8))
    first = in_background(a.say, chat_id, "one")
    assert wait_until(lambda: len(model.requests) == 1)
    second = in_background(b.say, chat_id, "two")
    assert (first.result(20).status, second.result(20).status) == (502, 200)
    assert [own_redis.client().pttl(key) for key in keys_of(own_redis, chat_id)] == [-1, -1]


# --- messages are lost, as an eviction does ---------------------------------------------------------


@pytest.mark.parametrize("branched", [False, True])
def test_messages_that_are_lost_before_a_turn_make_the_chat_anew(
    start: Any, own_redis: RedisServer, chat_id: str, branched: bool
) -> None:
    client = start().client
    client.say(chat_id, "x")
    if branched:
        client.say(chat_id, "other", parent_id="root")
    old = client.get(f"/{chat_id}/chat").headers["ETag"]
    own_redis.client().rpop(HISTORY.format(chat_id))
    assert client.say(chat_id, "y").status == 200
    assert said(client, chat_id) == ["y"]
    assert client.get(f"/{chat_id}/chat", If_None_Match=old).status == 200


def test_messages_that_are_lost_during_a_turn_leave_a_chat_that_can_be_used(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    client = start().client
    client.say(chat_id, "x")
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id, "y")
    own_redis.client().delete(HISTORY.format(chat_id))
    gate.set()
    assert stream.rest()[-1].name == "failed"
    assert client.get(f"/{chat_id}/chat").json == [], "no half of a chat"
    assert client.say(chat_id, "z", when_busy="reject").status == 200
    history = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in history[::2]] == ["z"] and history[0]["parent_id"] is None


# --- begun, and never started ------------------------------------------------------------------------


def test_whoever_follows_a_turn_that_was_begun_and_never_started_learns_why(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    client = start().client
    client.say(chat_id, "x")
    refused = client.say(chat_id, "y", stream=True, model="agent")
    assert (refused.status, refused.code) == (503, "no_agent")
    (log,) = [key for key in keys_of(own_redis, chat_id) if ":log:" in key]
    turn_id = f"turn_2{log.rpartition(':')[2]}"
    events = client.stream(f"/{chat_id}/turns/{turn_id}/stream", method="GET").rest()
    assert (events[-1].name, events[-1].data["error"]["code"]) == ("failed", "no_agent")


# --- Redis is full ----------------------------------------------------------------------------------


def test_a_full_redis_refuses_a_turn_whole_and_lets_chats_be_deleted(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    client, redis = start().client, own_redis.client()
    client.say(chat_id, "x")
    client.say(f"{chat_id}-2", "x")
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id, "y")
    redis.config_set("maxmemory", "1")
    refused = client.say(f"{chat_id}-2", "z")
    assert (refused.status, refused.code) == (503, "store_unavailable")
    assert client.request("DELETE", f"/{chat_id}-2").status == 204
    assert client.post(f"/{chat_id}/chat/stop", None).status in (200, 503)
    redis.config_set("maxmemory", "0")
    gate.set()
    assert stream.rest()[-1].name in ("completed", "cancelled")
    assert said(client, chat_id) == ["x", "y"] and keys_of(own_redis, f"{chat_id}-2") == []
    assert client.say(chat_id, "z", when_busy="reject").status == 200


# --- what is counted ---------------------------------------------------------------------------------


def used(user: Client) -> dict[str, Any]:
    usage: dict[str, Any] = user.get("/me").json["usage"]["day"]
    return usage


def test_a_turn_that_is_stopped_on_another_instance_is_booked_with_what_its_producer_knows(
    start: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY}
    a, b = start(**settings), start(**settings)
    _, user = new_user(a.client.base)
    other = Client(b.client.base, user.headers)
    model.enqueue(Answer(pieces=["word "] * 300, gate=gate))
    waiting = in_background(user.say, chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 1)
    assert other.post(f"/{chat_id}/chat/stop", None).status == 200
    assert used(user)["completion_tokens"] == 0, "nobody has seen anything of it"
    gate.set()
    assert waiting.result(20).json["status"] == "cancelled"
    assert wait_until(lambda: used(user)["completion_tokens"] == 300, 2), used(user)
    assert used(user)["requests"] == 1


def test_what_a_dead_instance_has_reserved_is_free_when_its_lease_is_over(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    limits = {"DAILY_TOKEN_BUDGET": "1000", "MAX_OUTPUT_TOKENS": "800", "LEASE_SECONDS": "1"}
    settings = limits | {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY}
    runner, b = start(**settings), start(**settings)
    owner, user = new_user(b.client.base)
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    start_stream(Client(runner.client.base, user.headers), chat_id)
    refused = user.say(f"{chat_id}-2", "x")
    assert (refused.status, refused.code) == (429, "budget_exhausted")
    assert refused.headers["Retry-After"] == "1", "it is reserved, not spent"
    runner.kill()
    assert wait_until(lambda: user.say(f"{chat_id}-2", "x").status == 200, 5)
    assert own_redis.client().zcard(f"ck:{{{owner}}}:running") == 0
    assert own_redis.client().hget(f"ck:{{{owner}}}:user", "reserved").endswith(b":0")


def test_what_a_turn_has_reserved_is_free_when_its_chat_is_lost(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    limits = {"DAILY_TOKEN_BUDGET": "1000", "MAX_OUTPUT_TOKENS": "800", "LEASE_SECONDS": "1"}
    client = start(**limits).client
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    own_redis.client().delete(CHAT.format(chat_id))
    assert wait_until(lambda: client.say(f"{chat_id}-2", "x").status == 200, 5)
    gate.set()
    assert stream.rest()[-1].name == "failed"
    assert own_redis.client().zcard("ck:{anonymous}:running") == 0


def test_a_budget_that_is_nearly_spent_caps_the_answer(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    client = start(DAILY_TOKEN_BUDGET="100").client
    model.enqueue(Answer(pieces=["w "] * 40))
    assert client.say(chat_id, "x").status == client.say(f"{chat_id}-2", "x").status == 200
    first, second = (request.body["max_tokens"] for request in model.requests)
    assert 90 < first < 100 and 45 < second < 60
    model.enqueue(Answer(pieces=["w "] * 60))
    client.say(f"{chat_id}-3", "x")
    assert client.say(chat_id, "x").code == "budget_exhausted"


# --- repeats ------------------------------------------------------------------------------------------


def test_a_new_encryption_key_in_front_changes_no_fingerprint() -> None:
    old, new = b"o" * 32, b"n" * 32
    chat = ChatRef("ada", "c")
    assert Vault([old]).once_key(chat) == Vault([new, old]).once_key(chat)
    assert Vault([old]).fingerprint("ada", b"x") == Vault([new, old]).fingerprint("ada", b"x")
    assert Vault([old]).fingerprint("ada", b"x") != Vault([old]).fingerprint("bob", b"x")
    assert Vault([]).fingerprint("ada", b"x") != Vault([]).fingerprint("bob", b"x")


def test_a_repeat_after_its_failed_first_turn_runs_in_a_chat_that_lives_for_ever(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    client = start().client
    model.enqueue(Answer(status=400, error="no"))
    body = {"content": "x"}
    assert client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 502
    (once,) = own_redis.client().scan_iter("*:once:*")
    assert 0 < own_redis.client().pttl(once) <= 86_400_000, "remembered for a day"
    assert client.post(f"/{chat_id}/chat", body, Idempotency_Key="k").status == 200
    assert own_redis.client().pttl(once) == -1, "as long as the chat"


def test_a_failed_message_with_another_body_is_a_conflict_all_the_same(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    client = start().client
    client.say(chat_id, "before")
    model.enqueue(Answer(status=400, error="no"))
    assert client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k").status == 502
    other = client.post(f"/{chat_id}/chat", {"content": "y"}, Idempotency_Key="k")
    assert (other.status, other.code) == (409, "idempotency_conflict")


def test_a_key_that_cannot_be_read_back_leaves_the_chat_free(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    a, b = start(ENCRYPTION_KEY="ab" * 32).client, start(ENCRYPTION_KEY="cd" * 32).client
    assert a.say(chat_id, "x").status == 200
    assert b.say(chat_id, "y").status == 500, "another key: it begins, and cannot be read"
    assert wait_until(lambda: a.get(f"/{chat_id}").json["active_turn"] is None, 2)
    assert a.say(chat_id, "z", when_busy="reject").status == 200
