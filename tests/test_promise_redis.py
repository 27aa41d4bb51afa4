"""Redis as it is: away, full, read-only, forgetful, shared; each is told as what it is."""

import os
import signal
import time
from typing import Any

import pytest

from dev.model import ModelServer
from dev.redis_server import RedisServer
from tests.harness import wait_until


def test_the_process_lives_while_redis_is_away(start_briefly: Any, own_redis: RedisServer) -> None:
    client = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no").client
    assert client.get("/livez").status == 200
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert client.get("/livez").status == 200 and time.monotonic() - began < 1
        assert client.get("/health").status == 503
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    assert wait_until(lambda: client.get("/health").status == 200)


@pytest.mark.parametrize(
    "name, spell",
    [("full", ("CONFIG SET", "maxmemory", "1")), ("read-only", ("REPLICAOF", "127.0.0.1", "1"))],
)
def test_a_redis_that_takes_no_writes_is_told_apart_from_one_that_is_away(
    start_briefly: Any,
    model: ModelServer,
    own_redis: RedisServer,
    chat_id: str,
    name: str,
    spell: tuple[str, ...],
) -> None:
    client = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no").client
    assert client.say(chat_id, "x").status == client.get("/health").status == 200
    own_redis.client().execute_command(*spell)
    health, refused = client.get("/health"), client.say(chat_id, "y")
    for reply in (refused, health):
        assert (reply.status, reply.code) == (503, "store_unavailable"), reply.body
        assert name in reply.json["error"]["message"], reply.body
    assert len(client.get(f"/{chat_id}/chat").json) == 2, "what is stored can be read"
    assert client.get("/livez").status == 200 and len(model.requests) == 1


def test_an_eviction_policy_that_throws_chats_away_is_told(
    start_briefly: Any, own_redis: RedisServer
) -> None:
    own_redis.client().config_set("maxmemory-policy", "allkeys-lru")
    function = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no")
    health = function.client.get("/health")
    assert health.status == 200 and b"allkeys-lru" in health.body
    assert wait_until(lambda: "allkeys-lru" in function.log.read_text(), 3)


def test_two_deployments_on_one_redis_do_not_see_each_other(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
    one, two = (start_briefly(REDIS_KEY_PREFIX=name, **own).client for name in ("one", "two"))
    assert one.say(chat_id, "x", stream=True).status == 200
    assert two.get(f"/{chat_id}").status == 404 and two.get("/chats").json["data"] == []
    keys = own_redis.client().keys("*")
    assert keys and all(key.startswith(b"one") for key in keys), keys
