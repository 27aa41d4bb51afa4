"""The door to Redis."""

from pathlib import Path
from typing import Any

import pytest

from chat.errors import StoreUnavailable
from chat.store import Store
from dev.redis_server import RedisCluster


def test_only_upstash_is_sent_the_line_that_spares_it_a_lock(redis_server: Any) -> None:
    """Stock servers refuse that line, which is how one sees that it was sent."""

    def store(*, lock_keys_only: bool) -> Store:
        return Store(redis_server.client, lock_keys_only=lock_keys_only, cluster=False)

    store(lock_keys_only=False).run("title", ["ck:{x}:chat:x"], "a", "b")
    with pytest.raises(StoreUnavailable):
        store(lock_keys_only=True).run("title", ["ck:{x}:chat:x"], "a", "b")


def test_a_server_that_has_forgotten_the_scripts_is_sent_them_again(redis_server: Any) -> None:
    store = Store(redis_server.client, lock_keys_only=False, cluster=False)
    for _ in range(2):
        redis_server.client().script_flush()
        assert store.run("describe", ["ck:{x}:chat:x"], "title") == [[None]]


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
        assert read.read(5) == [(b"1-1", {b"f": b"v"})]
        client.delete("{x}")
        _move(client, client.keyslot("{x}"))
        read.send("0-0", 1000)
        with pytest.raises(StoreUnavailable):
            read.read(5)
        assert store.read_stream("{x}", "0-0", 0) == []
        read.send("0-0", 100)
        assert read.read(5) == []
    finally:
        cluster.stop()
    for ask in (lambda: store.read_stream("{x}", "0-0", 0), lambda: read.send("0-0", 100)):
        with pytest.raises(StoreUnavailable):
            ask()


def _move(client: Any, slot: int) -> None:
    """Give an empty slot to another node."""
    nodes = client.get_primaries()
    owner = client.get_node_from_key("{x}").name
    new = next(node for node in nodes if node.name != owner)
    new_id = client.execute_command("CLUSTER MYID", target_nodes=new).decode()
    for node in (new, *(node for node in nodes if node != new)):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id, target_nodes=node)
