"""The Lua scripts: what their headers declare, and calls that are checked against them."""

import re
from pathlib import Path
from typing import Any

import pytest

from chat.store.scripts import load_scripts, parse_script
from chat.store.store import Store
from dev.redis_server import RedisCluster, RedisServer
from tests.harness import ROOT

LUA = sorted((ROOT / "chat/store/lua").rglob("*.lua"))
CHAT = {name: f"ck:{{scripts}}:{name}:x" for name in ("chat", "history", "once", "running")}
ARGS: dict[str, Any] = {"nonce": "n", "chat_id": "x", "until_ms": 5, "keep_ms": 0}
WITHOUT_NONCE = {name: value for name, value in ARGS.items() if name != "nonce"}


@pytest.fixture
def store(redis_server: RedisServer | RedisCluster) -> Store:
    is_cluster = isinstance(redis_server, RedisCluster)
    return Store(redis_server.client, lock_keys_only=False, cluster=is_cluster)


def test_a_header_becomes_lua_that_names_keys_and_arguments_in_order() -> None:
    text = "--#keys chat logs...\n--#args nonce lease_ms\n-- why\n--#args name? \n--#include one\n"
    script = parse_script("x", text, {"one": "local function one() end"})
    assert script.source.splitlines() == [
        "local chat, logs = KEYS[1], {}; for i = 2, #KEYS do logs[i - 1] = KEYS[i] end",
        "local nonce, lease_ms = ARGV[1], ARGV[2]",
        "-- why",
        "local name = ARGV[3]",
        "local function one() end",
    ]
    args = {"lease_ms": 7, "name": "ada", "nonce": "n"}
    keys = {"logs": ["a", "b"], "chat": "c"}
    assert script.arrange(keys, args) == (("c", "a", "b"), ("n", 7, "ada"))
    without = script.arrange({"logs": [], "chat": "c"}, {"lease_ms": 7, "nonce": ""})
    assert without == (("c",), ("", 7))


def test_a_list_that_is_all_there_is_is_not_copied() -> None:
    assert parse_script("x", "--#args ranges...", {}).source == "local ranges = ARGV"


@pytest.mark.parametrize(
    "text",
    [
        *("--#args a... b", "--#args a? b...", "--#keys a... \n--#keys b"),  # a mark before the end
        *("--#args a b a", "--#keys a\n--#args b a...", "--#args a,b", "--#args A", "--#arg a"),
    ],
)
def test_a_malformed_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^x\.lua: "):
        parse_script("x", text, {})


@pytest.mark.parametrize(
    "keys, args, wrong",
    [
        ({}, ARGS, "'chat' is missing"),
        (CHAT, WITHOUT_NONCE, "'nonce' is missing"),
        (CHAT, ARGS | {"ttl_ms": 1}, "'ttl_ms' is unknown"),
        (CHAT | {"log": "x"}, ARGS, "'log' is unknown"),
        (CHAT, WITHOUT_NONCE | {"non": 1}, "'nonce' is missing"),
        (CHAT, ARGS | {"": 1}, "'' is unknown"),
    ],
)
def test_a_missing_or_unknown_name_is_refused_when_called(
    store: Store, keys: dict[str, str], args: dict[str, Any], wrong: str
) -> None:
    for call in (store.run, store.command):
        with pytest.raises(TypeError, match=rf"^beat\.lua: {wrong}$"):
            call("beat", keys, **args)


def test_text_is_not_taken_for_a_list(store: Store) -> None:
    with pytest.raises(TypeError, match=r"^ranges\.lua: '12' is not a list$"):
        store.run("ranges", {"history": "ck:{scripts}:none"}, max_bytes=1, ranges="12")


def test_names_may_be_given_in_any_order(store: Store, redis_server: RedisServer) -> None:
    redis = redis_server.client()
    redis.hset(CHAT["chat"], "turn", "n")
    assert store.run("beat", CHAT, **dict(reversed(ARGS.items()))) == 1
    assert redis.hget(CHAT["chat"], "lease") == b"5"
    assert redis.delete(CHAT["chat"]) == 1


def test_a_list_may_have_ten_thousand_values(store: Store) -> None:
    """More than Lua can unpack."""
    keys, ranges = {"history": "ck:{scripts}:none"}, [0, 0] * 5000
    assert store.run("ranges", keys, max_bytes=1, ranges=ranges) == []


def test_every_script_parses_and_is_known_to_redis_by_its_hash(redis_server: RedisServer) -> None:
    scripts = load_scripts()
    assert set(scripts) == {path.stem for path in LUA if path.parent.name == "lua"}
    for script in scripts.values():
        loaded = redis_server.client().script_load(script.source)
        assert (loaded if isinstance(loaded, str) else loaded.decode()) == script.sha1


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_no_lua_counts_positions_or_leaves_a_name_unused(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(KEYS|ARGV)\b", text)
    declared = re.findall(r"^--#(?:keys|args) (.+)$", text, re.MULTILINE)
    included = " ".join(re.findall(r"^--#include (.+)$", text, re.MULTILINE)).split()
    parts = {part: _code((path.parent / "parts" / f"{part}.lua").read_text()) for part in included}
    code = "\n".join([_code(text), *parts.values()])
    unused = [name for name in re.findall(r"\w+", " ".join(declared)) if not _uses(code, name)]
    for part, own in parts.items():
        functions = re.findall(r"^local function (\w+)", own, re.MULTILINE)
        others = code.replace(own, "")
        unused += [] if any(_uses(others, name) for name in functions) else [part]
    assert unused == []


def _code(text: str) -> str:
    return re.sub(r"--.*", "", text)


def _uses(code: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", code) is not None
