"""The door to Redis."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chat.app import connect_redis
from chat.core.errors import StoreUnavailable
from chat.host.flow import Readable, wait_for
from chat.settings import parse_settings
from chat.store.store import Store
from chat.store.stream_read import Rows, StreamRead
from dev.redis_server import RedisCluster, RedisServer


def test_only_upstash_is_sent_the_line_that_spares_it_a_lock(redis_server: Any) -> None:
    """Stock servers refuse that line, which is how one sees that it was sent."""

    def store(*, lock_keys_only: bool) -> Store:
        return Store(redis_server.client, lock_keys_only=lock_keys_only, cluster=False)

    keys = {"chat": "ck:{x}:chat:x"}
    store(lock_keys_only=False).run("title", keys, title="a", mark="m")
    with pytest.raises(StoreUnavailable):
        store(lock_keys_only=True).run("title", keys, title="a", mark="m")


def test_a_server_that_has_forgotten_the_scripts_is_sent_them_again(redis_server: Any) -> None:
    store = Store(redis_server.client, lock_keys_only=False, cluster=False)
    for _ in range(2):
        redis_server.client().script_flush()
        assert store.run("describe", {"hashes": ["ck:{x}:chat:x"]}, fields=["title"]) == [[None]]
    redis_server.client().script_flush()
    read = store.command("ranges", {"history": "ck:{x}:history:x"}, max_bytes=1, ranges=[0, 0])
    assert store.send([("EXISTS", "ck:{x}:history:x"), read, read]) == [0, [], []]


@pytest.fixture
def store(own_redis: RedisServer) -> Store:
    """One that waits 0.3 s at most, and lists of one value each to ask it for."""
    for number in range(16):
        own_redis.client().rpush(f"list-{number}", number)
    settings = parse_settings({"GPT_API_KEY": "x", "REDIS_URL": own_redis.url})
    return Store(lambda: connect_redis(settings, 0.3), lock_keys_only=False, cluster=False)


def values(store: Store, numbers: Iterable[int]) -> list[int]:
    return [
        int(store.run("ranges", {"history": f"list-{number}"}, max_bytes=10**6, ranges=[0, 0])[0])
        for number in numbers
    ]


def test_a_connection_that_died_while_idle_is_replaced_unnoticed(
    own_redis: RedisServer, store: Store
) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: values(store, [n] * 50), range(16))) == [
            [n] * 50 for n in range(16)
        ]
        own_redis.client().client_kill_filter(_type="normal", skipme=True)
        assert list(pool.map(lambda n: values(store, [n])[0], range(16))) == list(range(16))


def test_a_reply_that_came_too_late_answers_nobody_else(
    own_redis: RedisServer, store: Store
) -> None:
    assert values(store, [1]) == [1]
    own_redis.client().client_pause(600)
    with pytest.raises(StoreUnavailable):
        values(store, [2])
    time.sleep(0.6)
    assert values(store, range(3, 8)) == list(range(3, 8))


def test_after_an_error_reply_the_connection_is_used_again(
    own_redis: RedisServer, store: Store
) -> None:
    own_redis.client().set("text", "x")
    before = values(store, [1]) and len(own_redis.client().client_list())
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            store.run("ranges", {"history": "text"}, max_bytes=10**6, ranges=[0, 0])
        assert values(store, [1]) == [1]
    assert len(own_redis.client().client_list()) == before


def test_a_read_of_a_key_that_has_moved_fails_until_the_key_was_read_otherwise(
    tmp_path: Path,
) -> None:
    cluster = RedisCluster(tmp_path).start()
    store = Store(cluster.client, lock_keys_only=False, cluster=True)
    read = store.open_read("{x}")
    try:
        client = cluster.client()
        client.xadd("{x}", {"f": "v"}, id="1-1")
        read.send("0-0", 1000)
        assert _reply(read) == [(b"1-1", {b"f": b"v"})]
        client.delete("{x}")
        _move(client, client.keyslot("{x}"))
        read.send("0-0", 1000)
        with pytest.raises(StoreUnavailable):
            _reply(read)
        assert store.read_stream("{x}", "0-0", 0) == []
        read.send("0-0", 100)
        assert _reply(read) == []
    finally:
        cluster.stop()
    for ask in (lambda: store.read_stream("{x}", "0-0", 0), lambda: read.send("0-0", 100)):
        with pytest.raises(StoreUnavailable):
            ask()


def _reply(read: StreamRead) -> Rows:
    while not read.receive():
        wait_for(Readable(read.fileno()), 5.0)
    return read.read()


def _move(client: Any, slot: int) -> None:
    """Give an empty slot to another node."""
    nodes = client.get_primaries()
    owner = client.get_node_from_key("{x}").name
    new = next(node for node in nodes if node.name != owner)
    new_id = client.execute_command("CLUSTER MYID", target_nodes=new).decode()
    for node in (new, *(node for node in nodes if node != new)):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id, target_nodes=node)
