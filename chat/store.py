"""The one door to Redis: scripts by their hash, and every failure as StoreUnavailable.

Reads and writes of chats go through scripts: each is one atomic step and one round trip, and on
replicated services (Upstash) a script runs on the leader, where a plain read may be stale.
"""

import functools
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from chat.errors import StoreUnavailable

_LUA = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^--#include (.*)$", re.MULTILINE)
log = logging.getLogger("chatkeep")

Value = str | bytes | int
Argument = Value | Callable[[], Value]
Command = tuple[Value, ...]


class Store:
    """Runs scripts of `chat/lua` by name, and plain commands in batches.

    `connect` makes the client at first use. A cluster's, unlike a single server's, asks for the
    slots while it is made, so that may fail, and is tried again.
    """

    def __init__(
        self, connect: Callable[[], "Redis"], *, lock_keys_only: bool, cluster: bool
    ) -> None:
        # Upstash locks the whole database for a script that does not carry this line;
        # every other server refuses a script that does.
        first_line = "#!lua flags=allow-key-locking\n" if lock_keys_only else ""
        self._connect = connect
        self._cluster = cluster
        self._made: Any = None
        self._making = threading.Lock()
        self._sources = {name: first_line + script for name, script in _scripts().items()}
        self._hashes = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    def run(self, script: str, keys: Sequence[str], *args: Argument) -> Any:
        """One round trip; raises StoreUnavailable when Redis does not answer, or answers no.

        An argument that is a function is asked for its value at the last moment: a deadline, say.
        """
        try:
            execute = self._client.execute_command if self._cluster else self._line.execute
            ready = [arg() if callable(arg) else arg for arg in args]
            try:
                return execute(*self.command(script, keys, *ready))
            except NoScriptError:
                return execute("EVAL", self._sources[script], len(keys), *keys, *ready)
        except RedisError as error:
            raise _unavailable(script, error) from error

    def command(self, script: str, keys: Sequence[str], *args: Value) -> Command:
        """A script as a command for `send`."""
        return ("EVALSHA", self._hashes[script], len(keys), *keys, *args)

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one round trip; the reply to one may be a ResponseError."""
        try:
            pipe = self._client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            return replies
        except RedisError as error:
            raise _unavailable("a batch", error) from error

    def write(self, commands: Sequence[Command]) -> list[Any]:
        """As `send`, for commands that all must work."""
        replies = self.send(commands)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise _unavailable("a batch", reply) from reply
        return replies

    def read_stream(
        self, key: str, after: str, block_ms: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Entries of a stream after an id; waits for the first, but not longer than `block_ms`."""
        # A cluster's client would ask the server, at every XREAD, where the key is in it.
        where = {"target_nodes": self._client.get_node_from_key(key)} if self._cluster else {}
        wait = ("BLOCK", block_ms) if block_ms else ()
        try:
            reply = self._client.execute_command("XREAD", *wait, "STREAMS", key, after, **where)
        except RedisError as error:
            raise _unavailable("XREAD", error) from error
        return list(reply[0][1]) if reply else []

    def delete_matching(self, pattern: str) -> None:
        """Walk through all keys, and delete those of a pattern; slow, for rare use."""
        try:
            for key in self._client.scan_iter(match=pattern, count=1000):
                self._client.delete(key)
        except RedisError as error:
            raise _unavailable("SCAN", error) from error

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        try:
            self._client.ping()
        except RedisError as error:
            raise _unavailable("PING", error) from error

    @property
    def _client(self) -> Any:
        if self._made is None:
            with self._making:
                self._made = self._made or self._connect()
        return self._made

    @functools.cached_property
    def _line(self) -> "_Line":
        return _Line(self._client.connection_pool)


class _Line:
    """One server, asked over connections of the client, but without what else the client does.

    Its locks, hooks, and looks at the socket before it is used take longer than Redis itself.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Any] = []

    def execute(self, *command: Value) -> Any:
        """Once more, when the connection has died: which it may have done while it was idle."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            return _exchange(connection, command)
        except RedisConnectionError:
            connection.disconnect()
            return _exchange(connection, command)
        finally:
            self._idle.append(connection)


def _exchange(connection: Any, command: Command) -> Any:
    connection.send_packed_command(connection.pack_command(*command))
    return connection.read_response()


@functools.cache
def _scripts() -> dict[str, str]:
    """The scripts by name, with the parts they name, read once for all doors."""
    parts = {path.stem: path.read_text() for path in (_LUA / "parts").glob("*.lua")}

    def put_in(match: re.Match[str]) -> str:
        return "\n".join(parts[name] for name in match[1].split())

    return {path.stem: _INCLUDE.sub(put_in, path.read_text()) for path in _LUA.glob("*.lua")}


def was_refused(reply: object) -> bool:
    """Whether Redis said no to one command of a batch."""
    return isinstance(reply, ResponseError)


def was_unknown(reply: object) -> bool:
    """Whether Redis does not have the script (it was restarted): `run` will send it."""
    return isinstance(reply, NoScriptError)


def _unavailable(what: str, error: RedisError) -> StoreUnavailable:
    log.warning("redis: %s in %s: %s", type(error).__name__, what, error)
    return StoreUnavailable("The chat store cannot be reached.", retry_after=1)
