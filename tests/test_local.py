"""Who is of this machine, how often one may be wrong, and how failures of Redis are told. No process."""

import inspect
from collections.abc import Iterator

import pytest
from redis.exceptions import (
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from chat.core.errors import RateLimited
from chat.core.messages import ChatRef
from chat.store import keyspace
from chat.store.failures import unavailable
from chat.web.auth.attempts import Attempts
from chat.web.auth.local import is_local, is_own_page

HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8080", "HTTP_ACCEPT": "*/*"}


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1:80", "[::1]:8080"])
def test_a_loopback_peer_under_a_local_name_is_of_this_machine(peer: str, host: str) -> None:
    assert is_local(HERE | {"REMOTE_ADDR": peer, "HTTP_HOST": host})


@pytest.mark.parametrize(
    "other",
    [
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": "::ffff:10.0.0.7"},
        {"REMOTE_ADDR": "localhost"},
        {"HTTP_HOST": ""},
        {"HTTP_HOST": "localhost.evil.example"},
        {"HTTP_HOST": "evil@localhost.example"},
        {"HTTP_HOST": "0.0.0.0"},
        {"HTTP_HOST": "[::1"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": ""},
        {"HTTP_VIA": "1.1 proxy"},
    ],
)
def test_anything_that_speaks_of_somebody_else_is_not(other: dict[str, str]) -> None:
    assert not is_local(HERE | other)


@pytest.mark.parametrize(
    "origin, is_own",
    [
        ("http://localhost:5173", True),
        ("https://[::1]", True),
        ("https://app.example", True),
        ("null", False),
        ("", False),
        ("https://localhost.app.example", False),
        ("chrome-extension://localhost", False),
    ],
)
def test_a_page_is_of_this_machine_or_of_the_origins(origin: str, is_own: bool) -> None:
    assert is_own_page({"HTTP_ORIGIN": origin}, frozenset({"https://app.example"})) == is_own
    assert is_own_page({"HTTP_ORIGIN": origin}, frozenset({"*"}))
    assert is_own_page({}, frozenset())


def test_after_twenty_wrong_keys_the_next_has_to_wait() -> None:
    attempts = Attempts()
    for _ in range(20):
        attempts.spend()
    with pytest.raises(RateLimited) as refused:
        attempts.spend()
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")


@pytest.mark.parametrize(
    "error, word",
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "full"),
        (ResponseError("Error running script: -OOM command not allowed"), "full"),
        (ResponseError("DB capacity quota exceeded"), "full"),
        (ReadOnlyError("You can't write against a read only replica."), "read-only"),
        (ResponseError("@user_script: -READONLY You can't write"), "read-only"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk"),
        (ResponseError("max daily request limit exceeded. Limit: 10000"), "used up"),
        (ResponseError("max requests limit exceeded. Limit: 500000"), "used up"),
        (ResponseError("max request size exceeded. Limit: 1048576 bytes"), "too large"),
        (ResponseError("Protocol error: invalid bulk length"), "too large"),
        (ResponseError("NOAUTH Authentication required."), "password"),
        (ResponseError("WRONGPASS invalid username-password pair"), "password"),
        (ResponseError("LOADING Redis is loading the dataset in memory"), "loading"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "replicas"),
        (ResponseError("max number of clients reached"), "no connection"),
        (TimeoutError("Timeout reading from socket"), "cannot be reached"),
        (ResponseError("WRONGTYPE Operation against a key"), "cannot be reached"),
    ],
)
def test_what_is_the_matter_with_redis_is_in_the_message(error: RedisError, word: str) -> None:
    told = unavailable("begin", error)
    assert (told.status, told.code) == (503, "store_unavailable")
    assert word in told.message and int(told.headers["Retry-After"]) >= 1


@pytest.fixture
def prefix() -> Iterator[str]:
    keyspace.use_prefix("prod:")
    yield "prod:"
    keyspace.use_prefix("")


def test_the_prefix_stands_in_front_of_every_key_and_its_hash_tag_stays(prefix: str) -> None:
    given = {"chat": ChatRef("ann", "c"), "owner": "ann"}
    names = [name for name, _ in inspect.getmembers(keyspace, inspect.isfunction)]
    makers = [name for name in names if name.endswith("_key") or name == "all_keys_of"]
    assert len(makers) >= 12
    for name in makers:
        maker = getattr(keyspace, name)
        wanted = inspect.signature(maker).parameters
        with_prefix = maker(*(given.get(each, "x") for each in wanted))
        keyspace.use_prefix("")
        assert with_prefix == prefix + maker(*(given.get(each, "x") for each in wanted)), name
        keyspace.use_prefix(prefix)
