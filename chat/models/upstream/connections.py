"""Connections to one server: the idle ones are used again, the newest first."""

import base64
import contextlib
import socket
import ssl
from urllib.parse import unquote, urlsplit

from chat.host.sockets import wait_readable
from chat.models.upstream.address import Address

_CONNECT_SECONDS = 5.0
_READ_BYTES = 65536  # more than a TLS record: a select() would not show decrypted leftovers
_MAX_HEAD_BYTES = 65536
_TRY_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_SENDS_AT_ONCE = 64  # a TLS record each: then others have their turn


class Connections:
    """`proxy`: an http:// URL, perhaps with a user and a password; "" for none."""

    def __init__(self, address: Address, proxy: str = "") -> None:
        self._address = address
        self._proxy = urlsplit(proxy)
        self._tls = ssl.create_default_context() if address.has_tls else None
        self._idle: list[socket.socket] = []

    def take(self, *, fresh: bool) -> tuple[socket.socket, bool]:
        """(a connection, whether it has been used before). Raises OSError."""
        with contextlib.suppress(IndexError):
            while not fresh:
                connection = self._idle.pop()
                if not wait_readable(connection, 0):
                    return connection, True
                connection.close()  # EOF, or bytes that belong to no request
        return self._connect(), False

    def give_back(self, connection: socket.socket) -> None:
        self._idle.append(connection)

    def _connect(self) -> socket.socket:
        address, proxy = self._address, self._proxy
        there = (proxy.hostname, proxy.port or 80) if proxy.hostname else None
        connection = socket.create_connection(
            there or (address.host, address.port), _CONNECT_SECONDS
        )
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if there:
                self._open_tunnel(connection)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_hostname=address.host)
            connection.setblocking(False)
            return connection
        except OSError:
            connection.close()
            raise

    def _open_tunnel(self, connection: socket.socket) -> None:
        """CONNECT (RFC 9110, section 9.3.6). Raises OSError."""
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        there = f"{host}:{self._address.port}"
        lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
        if self._proxy.username:
            pair = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
        connection.sendall("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)  # what follows the head belongs to TLS
            if not byte or len(head) > _MAX_HEAD_BYTES:
                raise ConnectionError("the proxy closed the connection")
            head += byte
        if not head.split(b" ", 2)[1:2] == [b"200"]:
            raise ConnectionError("the proxy refused")


def send_now(connection: socket.socket, data: memoryview) -> int:
    """Send what fits at once; how many bytes that was. Raises OSError."""
    sent = 0
    try:
        for _ in range(_SENDS_AT_ONCE):
            if sent == len(data):
                break
            sent += connection.send(data[sent:])
    except _TRY_LATER:
        pass
    return sent


def receive_now(connection: socket.socket) -> bytes | None:
    """What has come; None if nothing has, b"" at the end, in good order or not."""
    try:
        return connection.recv(_READ_BYTES)
    except _TRY_LATER:
        return None
    except OSError:
        return b""
