"""Chats into a file, and back into any Redis: for backups, and to move to another kind of server.

    python -m dev.backup save chats.backup    from the Redis that the settings name (.env)
    python -m dev.backup load chats.backup    into it; refuses unless it holds no chats

By plain reads and writes, key by key, so that it works wherever Chatkeep does: Upstash, which gives
no RDB file to everybody, a cluster, Valkey, an older version. What is written meanwhile may be torn:
stop the function first (`gcloud run services update my-chat --max=0`, or take its traffic away).
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from chat.app import connect_redis
from chat.settings import parse_settings, read_environment

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 30.0
_AT_ONCE = 500


class Record(msgspec.Struct, array_like=True):
    """A key: its type as Redis says it, when it expires (Unix time in ms, 0: never), its value."""

    key: bytes
    type: str
    expires_at_ms: int
    value: list[Any]


def save(redis: Any, file: IO[bytes], prefix: str) -> int:
    """Write every key to a file, each behind its length; how many."""
    number = 0
    for key in redis.scan_iter(match=f"{prefix}*", count=_AT_ONCE):
        if record := _read(redis, key):
            data = msgspec.msgpack.encode(record)
            file.write(len(data).to_bytes(4, "big") + data)
            number += 1
    return number


def load(redis: Any, file: IO[bytes]) -> int:
    """Write every key of a file to Redis; how many. What has expired is left out."""
    number = 0
    now_ms = time.time() * 1000
    for record in _records(file):
        if record.expires_at_ms and record.expires_at_ms <= now_ms:
            continue
        _write(redis, record)
        if record.expires_at_ms:
            redis.pexpireat(record.key, record.expires_at_ms)
        number += 1
    return number


def _read(redis: Any, key: bytes) -> Record | None:
    kind = redis.type(key).decode()
    value: list[Any]
    if kind == "string":
        value = [redis.get(key)]
    elif kind == "list":
        value = redis.lrange(key, 0, -1)
    elif kind == "hash":
        value = [part for pair in redis.hgetall(key).items() for part in pair]
    elif kind == "set":
        value = list(redis.smembers(key))
    elif kind == "zset":
        value = [[member, score] for member, score in redis.zrange(key, 0, -1, withscores=True)]
    elif kind == "stream":
        value = [[entry_id, *sum(fields.items(), ())] for entry_id, fields in redis.xrange(key)]
    elif kind == "none":  # it has just expired
        return None
    else:
        raise ValueError(f"{key!r} is a {kind}, which Chatkeep does not write")
    left_ms = redis.pttl(key)
    return Record(key, kind, int(time.time() * 1000) + left_ms if left_ms > 0 else 0, value)


def _write(redis: Any, record: Record) -> None:
    key, value = record.key, record.value
    if record.type == "string":
        redis.set(key, value[0])
    elif record.type == "zset":
        for at in range(0, len(value), _AT_ONCE):
            redis.zadd(key, {bytes(m): s for m, s in value[at : at + _AT_ONCE]})
    elif record.type == "stream":
        for entry_id, *fields in value:
            redis.execute_command("XADD", key, entry_id, *fields)
    else:
        add = {"list": "RPUSH", "hash": "HSET", "set": "SADD"}[record.type]
        for at in range(0, len(value), _AT_ONCE):
            redis.execute_command(add, key, *value[at : at + _AT_ONCE])


def _records(file: IO[bytes]) -> Iterator[Record]:
    while head := file.read(4):
        data = file.read(int.from_bytes(head, "big"))
        yield msgspec.msgpack.decode(data, type=Record)


def main(act: str, path: str) -> None:
    """Save to a file, or load from it."""
    settings = parse_settings(read_environment(ROOT))
    redis = connect_redis(settings, _SECONDS)
    prefix = f"{settings.redis_key_prefix}ck:"
    if act == "save":
        with open(path, "xb") as file:
            print(f"{save(redis, file, prefix)} keys are in {path}")
    elif next(redis.scan_iter(match=f"{prefix}*", count=_AT_ONCE), None) is not None:
        sys.exit("This Redis holds chats already; nothing was written.")
    else:
        with open(path, "rb") as file:
            print(f"{load(redis, file)} keys came from {path}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("save", "load"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
