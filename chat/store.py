"""The one door to Redis: scripts by their hash, and every failure as StoreUnavailable.

All reads and writes go through scripts: each is one atomic step and one round trip, and on
replicated services (Upstash) a script runs on the leader, where a plain read may be stale.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from chat.errors import StoreUnavailable

_LUA = Path(__file__).parent / "lua"
log = logging.getLogger("chatkeep")


class Store:
    """Runs the scripts of `chat/lua` by name."""

    def __init__(self, client: "Redis", *, lock_keys_only: bool) -> None:
        # Upstash locks the whole database for a script that does not carry this line;
        # every other server refuses a script that does.
        first_line = "#!lua flags=allow-key-locking\n" if lock_keys_only else ""
        self._client = client
        self._sources = {path.stem: first_line + path.read_text() for path in _LUA.glob("*.lua")}
        self._hashes = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    def run(self, script: str, keys: Sequence[str], *args: str | bytes | int) -> Any:
        """One round trip; raises StoreUnavailable when Redis does not answer, or answers no."""
        try:
            try:
                return self._client.evalsha(self._hashes[script], len(keys), *keys, *args)
            except NoScriptError:
                return self._client.eval(self._sources[script], len(keys), *keys, *args)
        except RedisError as error:
            log.warning("redis: %s in %s: %s", type(error).__name__, script, error)
            raise StoreUnavailable("The chat store cannot be reached.", retry_after=1) from error

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        try:
            self._client.ping()
        except RedisError as error:
            raise StoreUnavailable("The chat store cannot be reached.", retry_after=1) from error
