"""What a test leaves behind in Redis and in the logs."""

import json
import re
from typing import Any

from dev.redis_server import RedisCluster, RedisServer
from tests.harness import ADMIN_KEY, ENCRYPTION_KEYS, UPSTREAM_KEY, Function

_SECRETS = re.compile(
    b"|".join(map(str.encode, (UPSTREAM_KEY, ADMIN_KEY, *ENCRYPTION_KEYS)))
    + rb"|ck_[A-Za-z0-9._~-]{1,64}_[0-9a-f]{48}"
)


def dump(redis_server: RedisServer | RedisCluster) -> bytes:
    """Every key and value in Redis, readable as far as they are."""
    parts: list[bytes] = []
    redis = redis_server.client()
    for key in redis.scan_iter(count=1000):
        kind = redis.type(key)
        parts.append(key)
        if kind == b"string":
            parts.append(redis.get(key))
        elif kind == b"list":
            parts += redis.lrange(key, 0, -1)
        elif kind == b"hash":
            parts += [part for pair in redis.hgetall(key).items() for part in pair]
        elif kind == b"zset":
            parts += redis.zrange(key, 0, -1)
        elif kind == b"stream":
            parts += [part for _, f in redis.xrange(key) for pair in f.items() for part in pair]
    return b"\n".join(parts)


def traces_of(redis_server: RedisServer | RedisCluster, chat_id: str) -> list[str]:
    """The keys of a chat, and the lists of chats that it is in; what others store does not count."""
    redis = redis_server.client()
    keys = [key.decode() for key in redis.scan_iter(count=1000)]
    lists = [key for key in keys if key.endswith(":chats")]
    return sorted(key for key in keys if chat_id in key) + [
        key for key in lists if redis.zscore(key, chat_id) is not None
    ]


def log_lines(function: Function) -> list[dict[str, Any]]:
    """What it has logged so far, in the form of Cloud Logging."""
    return [json.loads(line) for line in function.log.read_text().splitlines() if line[:1] == "{"]


def find_secret(data: bytes) -> bytes | None:
    """A key of ours, of a user or of the model API, in a log or a dump."""
    found = _SECRETS.search(data)
    return found and found[0]
