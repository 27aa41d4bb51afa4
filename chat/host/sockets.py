"""Waiting for a socket, and being woken up while waiting."""

import select
import socket

_READ_BYTES = 4096


def wait_readable(source: socket.socket | int, timeout: float) -> bool:
    """Whether there are bytes to read, or their end; waits at most `timeout` seconds."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def is_writable(target: socket.socket) -> bool:
    """Whether bytes could be written now: whoever reads what it is sent leaves room for more."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    return bool(poll.poll(0))


class WakeUpPipe:
    """A self-pipe: `wake`, from any thread, makes it readable until it is drained."""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair()
        self._sender.setblocking(False)
        self._receiver.setblocking(False)

    def fileno(self) -> int:
        return self._receiver.fileno()

    def wake(self) -> None:
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # the pipe is full, so a wake-up is pending; or it is closed

    def drain(self) -> None:
        """Before looking at what the wake-ups were for: a later one makes it readable again."""
        try:
            self._receiver.recv(_READ_BYTES)
        except OSError:
            pass

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()
