"""What an owner has stored is counted, and let go again, whatever becomes of it."""

from collections.abc import Callable
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Client]:
    def start(**settings: str) -> Client:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        client: Client = start_briefly(**own | settings).client
        return client

    return start


def test_bytes_are_counted_right_whatever_becomes_of_a_turn(
    start: Any, model: ModelServer, own_redis: RedisServer
) -> None:
    client = start(MAX_STORED_BYTES_PER_OWNER="300000")
    redis = own_redis.client()

    def counted() -> dict[str, int]:
        return {k.decode(): int(v) for k, v in redis.hgetall("ck:{anonymous}:sizes").items()}

    def beside_messages() -> int:
        (history,) = redis.scan_iter("*:history:kept")
        assert set(counted()) == {"", "kept"} and counted()[""] == counted()["kept"]
        return counted()["kept"] - sum(map(len, redis.lrange(history, 0, -1)))

    assert client.say("kept", "x" * 5000).status == 200
    model.enqueue(Answer(status=400, error="no"), Answer(status=400, error="no"))
    assert client.say("kept", "y" * 7000).status == client.say("gone", "y").status == 502
    chat_itself = beside_messages()
    assert 512 <= chat_itself < 530
    assert client.request("PATCH", "/kept", {"system": "s" * 1000}).status == 200
    assert beside_messages() == chat_itself + 1000
    assert client.say("kept", "z", system="short").status == 200
    assert beside_messages() == chat_itself + 5
    metadata = {"metadata": {"a": "x" * 15_000}}
    made = [client.post("/conversation", None).json["id"] for _ in range(25)]
    statuses = [client.request("PATCH", f"/{chat}", metadata).status for chat in made]
    assert statuses == sorted(statuses) and 17 <= statuses.count(200) <= 19
    assert client.request("PATCH", f"/{made[0]}", {"metadata": {"a": "b"}}).status == 200
    assert client.request("DELETE", "/conversations/all").status == 204
    assert counted() in ({}, {"": 0})


def test_bytes_of_a_chat_that_expired_do_not_count_for_the_next_one_of_its_name(
    start: Any, own_redis: RedisServer
) -> None:
    client = start(MAX_STORED_BYTES_PER_OWNER="300000")
    redis = own_redis.client()
    made = client.post("/conversation", None, Idempotency_Key="k").json["id"]
    assert client.say("again", "x" * 5000).status == 200
    kinds = ("chat:again", "history:again", f"chat:{made}")
    assert redis.delete(*(f"ck:{{anonymous}}:{kind}" for kind in kinds)) == 3
    assert client.say("again", "x").status == 200
    assert client.post("/conversation", None, Idempotency_Key="k").json["id"] == made
    sizes = {k.decode(): int(v) for k, v in redis.hgetall("ck:{anonymous}:sizes").items()}
    assert sizes[""] == sizes["again"] + sizes[made] and sizes[made] == 512
    assert sizes["again"] < 2000


def test_me_says_the_quotas(start: Any) -> None:
    limits = (
        start(MAX_CHATS_PER_OWNER="7", MAX_STORED_BYTES_PER_OWNER="9").get("/me").json["limits"]
    )
    assert (limits["max_chats"], limits["max_stored_bytes"]) == (7, 9)
