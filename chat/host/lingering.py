"""Closes connections without waiting for their clients.

close() with unread input sends RST, which can destroy the last bytes of an answer. So a server ends its
own side, and closes when the client has ended the other (RFC 9112, section 9.6). gunicorn waits for
that on the thread that accepts connections, two seconds for each client that does nothing.
"""

import socket
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, BaseSelector

_SECONDS = 2.0
_MAX_SOCKETS = 256
_READ_BYTES = 65536


class Lingering:
    """Sockets whose own side has ended; used on one thread, that of their selector."""

    def __init__(self) -> None:
        self._until: dict[socket.socket, float] = {}  # in the order of the moments

    def close(self, selector: BaseSelector, sock: socket.socket) -> None:
        """End our side now, and close when the client has ended its own, or does not in time."""
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # gone, or handed over to the relay
            sock.close()
            return
        if len(self._until) >= _MAX_SOCKETS:
            self._close(selector, next(iter(self._until)))
        self._until[sock] = time.monotonic() + _SECONDS
        selector.register(sock, EVENT_READ, partial(self._on_readable, selector))

    def close_expired(self, selector: BaseSelector, now: float) -> None:
        while self._until and (first := next(iter(self._until))) and self._until[first] <= now:
            self._close(selector, first)

    def _on_readable(self, selector: BaseSelector, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            try:
                if sock.recv(_READ_BYTES):
                    return
            except ConnectionError:
                pass
            self._close(selector, sock)

    def _close(self, selector: BaseSelector, sock: socket.socket) -> None:
        del self._until[sock]
        with suppress(OSError, KeyError, ValueError):
            selector.unregister(sock)
        sock.close()
