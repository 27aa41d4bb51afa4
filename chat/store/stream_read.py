"""A read of a stream that waits in Redis and blocks nobody here."""

from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError, TimeoutError

from chat.store.failures import FAILURES, unavailable

#: Entries of a stream: their ids and fields.
Rows = list[tuple[bytes, dict[bytes, bytes]]]


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
        except FAILURES as error:
            self.close()
            raise unavailable("XREAD", error) from error

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
            raise unavailable("XREAD", reply) from reply
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
