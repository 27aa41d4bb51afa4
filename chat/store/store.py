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

import hiredis
from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from chat.core.errors import StoreUnavailable

_LUA = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^--#include (.*)$", re.MULTILINE)
log = logging.getLogger("chatkeep")

Value = str | bytes | int
Argument = Value | Callable[[], Value]
Command = tuple[Value, ...]
#: Entries of a stream: their ids and fields.
Rows = list[tuple[bytes, dict[bytes, bytes]]]
# What a cluster's client says when it reaches no node is no RedisError.
_FAILURES = (RedisError, RedisClusterException)


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
        except _FAILURES as error:
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
        except _FAILURES as error:
            raise _unavailable("a batch", error) from error

    def write(self, commands: Sequence[Command]) -> list[Any]:
        """As `send`, for commands that all must work."""
        replies = self.send(commands)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise _unavailable("a batch", reply) from reply
        return replies

    def read_stream(self, key: str, after: str, block_ms: int) -> Rows:
        """Entries of a stream after an id; waits for the first, but not longer than `block_ms`."""
        wait = ("BLOCK", block_ms) if block_ms else ()
        try:
            # A cluster's client would ask the server, at every XREAD, where the key is in it.
            where = {"target_nodes": self._client.get_node_from_key(key)} if self._cluster else {}
            reply = self._client.execute_command("XREAD", *wait, "STREAMS", key, after, **where)
        except _FAILURES as error:
            raise _unavailable("XREAD", error) from error
        return list(reply[0][1]) if reply else []

    def open_read(self, key: str) -> "StreamRead":
        """Non-blocking `read_stream`. Connects to nothing yet."""
        return StreamRead(key, self._pool_of)

    def _pool_of(self, key: str) -> Any:
        client = self._client
        if self._cluster:
            client = client.get_redis_connection(client.get_node_from_key(key))
        return client.connection_pool

    def delete_matching(self, pattern: str) -> None:
        """Walk through all keys, and delete those of a pattern; slow, for rare use."""
        try:
            for key in self._client.scan_iter(match=pattern, count=1000):
                self._client.delete(key)
        except _FAILURES as error:
            raise _unavailable("SCAN", error) from error

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        try:
            self._client.ping()
        except _FAILURES as error:
            raise _unavailable("PING", error) from error

    @property
    def _client(self) -> Any:
        if self._made is None:
            with self._making:
                self._made = self._made or self._connect()
        return self._made

    @functools.cached_property
    def _line(self) -> "_Connection":
        return _Connection(self._client.connection_pool)


class _Connection:
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
    packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
    connection.send_packed_command([packed])
    return connection.read_response()


class StreamRead:
    """A read of a stream that waits in Redis, on a connection of its own from `send` to `read` or `close`.

    It does not follow a cluster whose keys have moved: then it fails, and whoever reads the key by
    `read_stream` next brings the client up to date.
    """

    def __init__(self, key: str, pool_of: Callable[[str], Any]) -> None:
        self._key = key
        self._pool_of = pool_of
        self._pool: Any = None
        self._connection: Any = None
        self._came: list[Any] = []  # the reply, or the error in its place

    @property
    def sent(self) -> bool:
        """Whether there is a reply to `read`."""
        return self._connection is not None

    def send(self, after: str, block_ms: int) -> None:
        """Ask for the entries after an id; raises StoreUnavailable."""
        try:
            self._pool = self._pool_of(self._key)
            self._connection = self._pool.get_connection()
            self._connection.send_command("XREAD", "BLOCK", block_ms, "STREAMS", self._key, after)
        except _FAILURES as error:
            self.close()
            raise _unavailable("XREAD", error) from error

    def fileno(self) -> int:
        """The socket that shows the reply, once it was asked for."""
        return int(self._connection._sock.fileno())  # noqa: SLF001

    @property
    def has_reply(self) -> bool:
        """Whether `receive` has found the reply, or what prevents it."""
        return bool(self._came)

    def receive(self) -> bool:
        """Look for the reply, at once; whether it, or what prevents it, has come."""
        if self.sent and not self._came:
            # Really reads: of what TLS has sent, and its socket shows, not all is a reply.
            try:
                reply = self._connection.read_response(timeout=0, disconnect_on_error=False)
                self._came = [reply]
            except TimeoutError:
                pass
            except RedisError as error:
                self._came = [error]
        return self.has_reply

    def read(self) -> Rows:
        """The reply; raises StoreUnavailable, also when none has come by now."""
        reply = self._came[0] if self.receive() else TimeoutError("No reply came in time.")
        self.close()
        if isinstance(reply, RedisError):
            raise _unavailable("XREAD", reply) from reply
        return [(entry_id, _in_pairs(fields)) for entry_id, fields in reply[0][1]] if reply else []

    def close(self) -> None:
        """Give up what was sent. The connection can be used again if the reply has come."""
        connection, self._connection = self._connection, None
        came, self._came = self._came, []
        if connection is None:
            return
        if not came or isinstance(came[0], RedisError):
            connection.disconnect()
        self._pool.release(connection)


def _in_pairs(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


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


def _unavailable(what: str, error: Exception) -> StoreUnavailable:
    log.warning("redis: %s in %s: %s", type(error).__name__, what, error)
    return StoreUnavailable("The chat store cannot be reached.", retry_after=1)
