"""A backup is restored into another Redis: the chats are the same, go on, and their keys let in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.model import ModelServer
from dev.redis_server import RedisServer
from tests.harness import (
    ADMIN_KEY,
    ENCRYPTION_KEYS,
    ROOT,
    Client,
    StartFunction,
    clean_environment,
    new_user,
    start_stream,
)

SETTINGS = {
    "AUTH": "keys",
    "ADMIN_KEY": ADMIN_KEY,
    "ENCRYPTION_KEY": ENCRYPTION_KEYS[0],
    "RATE_LIMIT": "100/hour",
    "CHAT_TTL_SECONDS": "3600",
}


@pytest.fixture
def other_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Not started: what it is to find is put into its folder first."""
    server = RedisServer(tmp_path / "other", persist=False)
    server.folder.mkdir()
    yield server
    server.stop()


def _backup(redis: RedisServer, act: str, file: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"REDIS_URL": redis.url, "GPT_API_KEY": "k"}
    return subprocess.run(
        [sys.executable, "-m", "dev.backup", act, str(file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _talk(client: Client) -> list[str]:
    """A few chats of every kind: streamed, with branches, with a title and a system prompt."""
    client.request("PATCH", "/plain", {"title": "a title", "system": "be brief"})
    first = client.say("plain", "ä€😀").json
    client.say("plain", "two")
    start_stream(client, "streamed")[0].rest()
    client.say("plain", "another way", parent_id=first["id"])
    return ["plain", "streamed"]


def _all_of(client: Client, chats: list[str]) -> list[object]:
    shown: list[object] = [client.get("/chats").json, client.get("/me").json]
    for chat in chats:
        history = client.get(f"/{chat}/chat")
        shown += [history.json, history.headers.get("ETag"), client.get(f"/{chat}").json]
    return shown


def _assert_restored(client: Client, chats: list[str], before: list[object]) -> None:
    assert _all_of(client, chats) == before
    assert [e.name for e in client.stream("/streamed/chat/stream", method="GET").rest()][-1:] == [
        "completed"
    ]
    assert [client.say(chat, "and on").status for chat in chats] == [200, 200]


def test_a_copy_of_the_servers_own_file_is_a_backup(
    start_function: StartFunction,
    model: ModelServer,
    own_redis: RedisServer,
    other_redis: RedisServer,
) -> None:
    first = start_function(REDIS_URL=own_redis.url, **SETTINGS)
    user = new_user(first.client.base)[1]
    chats = _talk(user)
    before = _all_of(user, chats)
    own_redis.client().execute_command("SAVE")
    shutil.copy(own_redis.folder / "dump.rdb", other_redis.folder)
    own_redis.kill()  # the disaster
    second = start_function(REDIS_URL=other_redis.start().url, **SETTINGS)
    _assert_restored(Client(second.client.base, user.headers), chats, before)


def test_a_backup_key_by_key_goes_into_any_server_and_never_over_chats(
    start_function: StartFunction,
    model: ModelServer,
    own_redis: RedisServer,
    other_redis: RedisServer,
    tmp_path: Path,
) -> None:
    first = start_function(REDIS_URL=own_redis.url, **SETTINGS)
    user = new_user(first.client.base)[1]
    chats = _talk(user)
    before = _all_of(user, chats)
    file = tmp_path / "chats.backup"
    saved = _backup(own_redis, "save", file)
    assert saved.returncode == 0, saved.stderr
    assert "€".encode() not in file.read_bytes(), "what is encrypted stays so"
    other_redis.start()
    loaded = _backup(other_redis, "load", file)
    assert loaded.returncode == 0, loaded.stderr
    times = [server.client().pttl(_history(server)) for server in (own_redis, other_redis)]
    assert all(3_500_000 < left <= 3_600_000 for left in times), "and when a chat expires"
    second = start_function(REDIS_URL=other_redis.url, **SETTINGS)
    _assert_restored(Client(second.client.base, user.headers), chats, before)
    again = _backup(other_redis, "load", file)
    assert again.returncode == 1 and "holds chats already" in again.stderr
    assert os.path.exists(file) and _backup(own_redis, "save", file).returncode == 1


def _history(server: RedisServer) -> bytes:
    key: bytes = next(server.client().scan_iter(match="ck:*:history:plain"))
    return key
