"""A wire between the function and Redis that loses replies when it is told to."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from dev.redis_server import RedisServer


class RedisProxy:
    """Passes bytes on, over TCP. After `lose`, the next commands that hold the mark are run by Redis,
    and their replies thrown away with the connection; before that, `meanwhile` is called.
    """

    def __init__(self, redis: RedisServer) -> None:
        self._path = urlsplit(redis.url).path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mark: bytes | None = None
        self._losses = 0
        self._meanwhile: Callable[[], None] = lambda: None
        self.lost = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "RedisProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def lose(self, mark: bytes, losses: int, meanwhile: Callable[[], None] | None = None) -> None:
        """The replies to so many commands that hold the mark are lost."""
        self._meanwhile = meanwhile or self._meanwhile
        self._losses, self._mark = losses, mark

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as redis, contextlib.suppress(OSError):
            redis.connect(self._path)
            while True:
                for ready in select.select([client, redis], [], [])[0]:
                    data = ready.recv(1 << 20)
                    if not data:
                        return
                    (redis if ready is client else client).sendall(data)
                    if ready is client and self._losses and self._mark and self._mark in data:
                        self._losses -= 1
                        redis.recv(1 << 20)  # it has been run
                        self.lost += 1
                        self._meanwhile()
                        return
