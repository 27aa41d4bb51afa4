"""The only way to Redis: runs scripts by their hash, reports failures as StoreUnavailable.

Chats are read and written by scripts alone. A script is one atomic step and one round trip, and on
replicated services (Upstash) it runs on the leader, where a plain read may be stale.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis
from redis import ConnectionPool, Redis, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from chat.core.errors import StoreUnavailable
from chat.store.failures import FAILURES, unavailable
from chat.store.keyspace import use_prefix
from chat.store.redis_clock import RedisClock
from chat.store.scripts import load_scripts
from chat.store.stream_read import Rows, StreamRead

Value = str | bytes | int
#: The keys of a script by name; a list where its header says `...`.
Keys = Mapping[str, str | Sequence[str]]
#: An argument of a script: a value, or a list where its header says `...`.
Argument = Value | Sequence[Value]
Command = tuple[Value, ...]
# hiredis' type stub accepts tuples of one element only.
_pack: Any = hiredis.pack_command


class Store:
    """Runs the scripts of `lua/` by name, and batches of plain commands.

    `connect` makes the client at first use, not before: a cluster's client asks for the slots when
    it is made, so that may fail, and is tried again.
    """

    def __init__(
        self,
        connect: Callable[[], Redis | RedisCluster],
        *,
        lock_keys_only: bool,
        cluster: bool,
        key_prefix: str = "",
    ) -> None:
        use_prefix(key_prefix)  # all stores of a process have the same
        # Upstash locks the whole database for a script that does not carry this line;
        # every other server refuses a script that does.
        first_line = "#!lua flags=allow-key-locking\n" if lock_keys_only else ""
        self.clock = RedisClock()
        self._connect = connect
        self._cluster = cluster
        self._made: Any = None
        self._making = threading.Lock()
        self._scripts = load_scripts(first_line)
        self._sources = {script.sha1: script.source for script in self._scripts.values()}

    def run(self, script: str, keys: Keys, /, **args: Argument) -> Any:
        """Run a script in one round trip, with keys and arguments as its header names them.

        Two arguments are given here: `deadline_ms`, and `resent`, which is "1" when an attempt before
        this one may have been run. Raises StoreUnavailable when Redis does not answer, answers too
        late or reports an error, and TypeError for a name that is missing or unknown.
        """
        has_deadline = "deadline_ms" in self._scripts[script].args.names
        try:
            try:
                reply = self._execute(script, keys, args, self._command)
            except NoScriptError:
                reply = self._execute(script, keys, args, self._sourced_command)
        except FAILURES as error:
            raise unavailable(script, error) from error
        if has_deadline and reply[0] == b"late":
            self.clock.learn(reply[1])
            raise StoreUnavailable("The chat store answered too late.", retry_after=1)
        return reply

    def _execute(
        self, script: str, keys: Keys, args: dict[str, Argument], write: Callable[..., Command]
    ) -> Any:
        names = self._scripts[script].args.names
        if "deadline_ms" in names:
            args = args | {"deadline_ms": self._deadline_ms(next(iter(keys.values())))}
        if "resent" not in names:
            resent = args
        else:
            args, resent = args | {"resent": ""}, args | {"resent": "1"}
        if self._cluster:  # its client sends again by itself, and does not say so
            return self._client.execute_command(*write(script, keys, resent))
        return self._direct.execute(
            write(script, keys, args), again=lambda: write(script, keys, resent)
        )

    def _deadline_ms(self, key: str | Sequence[str]) -> int:
        """When Redis must not run a command any more; asks it for the time at first contact."""
        if not self.clock.is_set:
            if self._cluster:
                node = self._client.get_node_from_key(key)
                reply = self._client.execute_command("TIME", target_nodes=node)
                seconds, micros = next(iter(reply.values())) if isinstance(reply, dict) else reply
            else:
                seconds, micros = self._direct.execute(("TIME",), again=lambda: ("TIME",))
            self.clock.learn(int(seconds) * 1000 + int(micros) // 1000)
        return self.clock.deadline_ms()

    def command(self, script: str, keys: Keys, /, **args: Argument) -> Command:
        """A script as a command for `send`; raises TypeError for a missing or unknown name."""
        return self._command(script, keys, args)

    def _command(self, script: str, keys: Keys, args: Mapping[str, Argument]) -> Command:
        found = self._scripts[script]
        named, given = found.arrange(keys, args)
        return ("EVALSHA", found.sha1, len(named), *named, *given)

    def _sourced_command(self, script: str, keys: Keys, args: Mapping[str, Argument]) -> Command:
        return self._with_source(self._command(script, keys, args))

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one round trip; the reply to one may be a ResponseError.

        One more round trip for each script that Redis does not have, because it was restarted.
        """
        try:
            replies = self._send(commands)
            for i, reply in enumerate(replies):
                if isinstance(reply, NoScriptError):
                    (replies[i],) = self._send([self._with_source(commands[i])])
            return replies
        except FAILURES as error:
            raise unavailable("a batch", error) from error

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = pipe.execute(raise_on_error=False)
        return replies

    def _with_source(self, command: Command) -> Command:
        return ("EVAL", self._sources[str(command[1])], *command[2:])

    def write(self, commands: Sequence[Command]) -> list[Any]:
        """As `send`, but raises StoreUnavailable as well when one of the commands was refused."""
        replies = self.send(commands)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise unavailable("a batch", reply) from reply
        return replies

    def read_stream(self, key: str, after: str, block_ms: int) -> Rows:
        """The entries of a stream after an id; waits up to `block_ms` for the first."""
        wait = ("BLOCK", block_ms) if block_ms else ()
        try:
            # Without a target, a cluster's client asks the server which argument of XREAD is a key.
            where = {"target_nodes": self._client.get_node_from_key(key)} if self._cluster else {}
            reply = self._client.execute_command("XREAD", *wait, "STREAMS", key, after, **where)
        except FAILURES as error:
            raise unavailable("XREAD", error) from error
        return list(reply[0][1]) if reply else []

    def open_read(self, key: str) -> StreamRead:
        """Non-blocking `read_stream`. Connects to nothing yet."""
        return StreamRead(key, self._pool_of)

    def _pool_of(self, key: str) -> Any:
        client = self._client
        if self._cluster:
            client = client.get_redis_connection(client.get_node_from_key(key))
        return client.connection_pool

    def delete_matching(self, pattern: str) -> None:
        """Delete the keys that match a pattern; scans all keys of the database, so it is slow."""
        try:
            for key in self._client.scan_iter(match=pattern, count=1000):
                self._client.delete(key)
        except FAILURES as error:
            raise unavailable("SCAN", error) from error

    def server_setting(self, name: str) -> str:
        """A setting of Redis, of one node of a cluster; "" where it does not tell."""
        where = {"target_nodes": self._client.get_random_node()} if self._cluster else {}
        try:
            reply = self._client.execute_command("CONFIG GET", name, **where)
        except ResponseError:  # managed servers keep it to themselves
            return ""
        except FAILURES as error:
            raise unavailable("CONFIG GET", error) from error
        found = (
            reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        )
        return next((_text(value) for key, value in found if _text(key) == name), "")

    @property
    def _client(self) -> Any:
        if self._made is None:
            with self._making:
                self._made = self._made or self._connect()
        return self._made

    @functools.cached_property
    def _direct(self) -> "_DirectClient":
        return _DirectClient(self._client.connection_pool)


class _DirectClient:
    """Executes commands on one server, on connections of the client's pool but past the client.

    The client's locks, hooks and checks of the socket take longer than Redis itself.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Any] = []

    def execute(self, command: Command, *, again: Callable[[], Command]) -> Any:
        """Send a command; once more if the connection is dead, as one that was idle may be.

        What is sent then is `again`: nobody knows whether the first was run.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            return _exchange(connection, command)
        except RedisConnectionError:
            connection.disconnect()
            return _exchange(connection, again())
        except ReadOnlyError:  # after a failover, the master's name leads somewhere else
            connection.disconnect()
            raise
        finally:
            self._idle.append(connection)


def _exchange(connection: Any, command: Command) -> Any:
    connection.send_packed_command([_pack(command)])
    return connection.read_response()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
