"""Waiting for a socket."""

import select
import socket


def shows_something(sock: socket.socket, timeout: float) -> bool:
    """Wait at most `timeout` seconds for bytes, or the end of them."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
