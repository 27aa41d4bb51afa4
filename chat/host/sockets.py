"""Waiting for a socket, and being woken up while waiting."""

import array
import fcntl
import select
import socket
import sys
import termios

_READ_BYTES = 4096
_MAX_DRAINED = 65536


def has_left(client: socket.socket) -> bool:
    """Whether the other side has closed its connection, or we have."""
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def wait_readable(
    source: socket.socket | int, timeout: float, *, or_writable: bool = False
) -> bool:
    """Whether there are bytes to read, or their end; waits at most `timeout` seconds.

    `or_writable`: or whether it takes bytes.
    """
    poll = select.poll()
    poll.register(source, select.POLLIN | (select.POLLOUT if or_writable else 0))
    return bool(poll.poll(timeout * 1000))


def is_writable(target: socket.socket) -> bool:
    """Whether bytes could be written now: whoever reads what it is sent leaves room for more."""
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    return bool(poll.poll(0))


def bytes_under_way(target: socket.socket) -> int:
    """How many sent bytes the other side has not acknowledged yet; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(target, termios.TIOCOUTQ, count)
    return count[0]


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


def has_closed(connection: socket.socket) -> bool:
    """Whether the other side of a non-blocking socket has closed it; reads nothing."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def close_read(connection: socket.socket) -> None:
    """Close a non-blocking socket, having read what there is.

    With unread input, close() sends RST, which can destroy the last bytes on their way out.
    """
    try:
        connection.recv(_MAX_DRAINED)
    except OSError:
        pass
    connection.close()
