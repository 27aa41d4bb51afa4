"""The door to Redis."""

from typing import Any

import pytest

from chat.errors import StoreUnavailable
from chat.store import Store


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
