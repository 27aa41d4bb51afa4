"""WebSocket frames: messages from bytes, and bytes from messages. No I/O.

Protocol: RFC 6455, by wsproto; no extension is offered, so no message is compressed.
"""

from typing import Any

from flask import Request
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, TextMessage
from wsproto.utilities import ProtocolError

from chat.core.errors import InvalidRequest

_TOO_BIG = 1009


class Broken(Exception):
    """The connection cannot go on; `code` and `reason` are for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frames:
    """The server's end of one connection; `closed` once the other side has sent a close frame."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        """Raises InvalidRequest unless the request is an opening handshake."""
        self.closed = False
        self._max_bytes = max_bytes
        self._parts: list[Any] = []
        self._size = 0
        self._socket = WSConnection(ConnectionType.SERVER)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in request.headers]
        try:
            self._socket.initiate_upgrade_connection(headers, request.path)
        except ProtocolError as problem:
            raise InvalidRequest("This is not a WebSocket handshake.", param="Upgrade") from problem

    def accept(self) -> bytes:
        """The response to the opening handshake."""
        return self._socket.send(AcceptConnection())

    def write(self, text: str) -> bytes:
        """A text message."""
        return self._socket.send(TextMessage(data=text))

    def close(self, code: int, reason: str) -> bytes:
        """The close frame; nothing may be sent after it."""
        return self._socket.send(CloseConnection(code=code, reason=reason))

    def read(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        """(complete messages, bytes to send back at once). Raises Broken."""
        messages: list[str | bytes] = []
        reply = b""
        self._socket.receive_data(data)
        for event in self._socket.events():
            if isinstance(event, Message):
                messages += self._gather(event)
            elif isinstance(event, Ping):
                reply += self._socket.send(event.response())
            elif isinstance(event, CloseConnection):
                if self._socket.state is not ConnectionState.REMOTE_CLOSING:
                    raise Broken(event.code, event.reason or "")
                self.closed = True
                reply += self._socket.send(event.response())
        return messages, reply

    def read_farewell(self, data: bytes) -> None:
        """After `close`: ignore everything but the other side's close frame."""
        self._socket.receive_data(data)
        events = self._socket.events()
        self.closed = any(isinstance(event, CloseConnection) for event in events)

    def _gather(self, part: Message[Any]) -> list[str | bytes]:
        """The message, if this was its last part. Raises Broken."""
        self._size += len(part.data)
        if self._size > self._max_bytes:
            raise Broken(_TOO_BIG, f"A message has more than {self._max_bytes} bytes.")
        self._parts.append(part.data)
        if not part.message_finished:
            return []
        whole = type(part.data)().join(self._parts)
        self._parts, self._size = [], 0
        return [whole]
