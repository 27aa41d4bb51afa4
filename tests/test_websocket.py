"""Messages on a WebSocket: whatever comes, in whatever pieces, is read, answered or refused."""

import pytest
from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from chat.core.errors import InvalidRequest
from chat.web.live.websocket import Broken, Frames

MOST = 100
HANDSHAKE = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Extensions": "permessage-deflate",
}


def _request(headers: dict[str, str]) -> Request:
    return Request(EnvironBuilder(path="/", headers=Headers(headers)).get_environ())


def _pair() -> tuple[Frames, Connection]:
    """Both ends, after the handshake."""
    frames = Frames(_request(HANDSHAKE), MOST)
    head = frames.accept()
    assert b" 101 " in head and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # the RFC's own example
    assert b"deflate" not in head
    return frames, Connection(ConnectionType.CLIENT)


def _events(client: Connection, data: bytes) -> list[Event]:
    client.receive_data(data)
    return list(client.events())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_are_whole_in_whatever_pieces_they_come(size: int) -> None:
    frames, client = _pair()
    sent = b"".join(
        [
            client.send(TextMessage("hel", message_finished=False)),
            client.send(Ping(b"?")),
            client.send(TextMessage("lo 😀")),
            client.send(BytesMessage(b"bytes")),
        ]
    )
    heard: list[str | bytes] = []
    reply = b""
    for at in range(0, len(sent), size):
        messages, said = frames.read(sent[at : at + size])
        heard, reply = heard + messages, reply + said
    assert heard == ["hello 😀", b"bytes"]
    (pong,) = _events(client, reply)
    assert isinstance(pong, Pong) and pong.payload == b"?"
    (back,) = _events(client, frames.write("and back"))
    assert isinstance(back, TextMessage) and back.data == "and back"


@pytest.mark.parametrize("parts", [1, 11])
def test_a_message_that_is_too_long_is_refused_however_it_comes(parts: int) -> None:
    frames, client = _pair()
    frames.read(client.send(TextMessage("x" * MOST)))
    pieces = ["x" * (1 + MOST // parts)] * parts
    sent = b"".join(client.send(TextMessage(p, message_finished=False)) for p in pieces)
    with pytest.raises(Broken) as broken:
        frames.read(sent)
    assert broken.value.code == 1009 and str(MOST) in broken.value.reason


@pytest.mark.parametrize(
    "data, code",
    [(b"\xff" * 20, 1002), (b"\x81\x01x", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)],
)
def test_what_is_no_frame_is_refused(data: bytes, code: int) -> None:
    frames, client = _pair()
    with pytest.raises(Broken) as broken:
        frames.read(data)
    assert broken.value.code == code
    (closed,) = _events(client, frames.close(code, broken.value.reason))
    assert isinstance(closed, CloseConnection) and closed.code == code


def test_either_side_may_part() -> None:
    frames, client = _pair()
    messages, reply = frames.read(
        client.send(TextMessage("last")) + client.send(CloseConnection(1000))
    )
    assert messages == ["last"] and frames.closed
    (closed,) = _events(client, reply)
    assert isinstance(closed, CloseConnection) and closed.code == 1000

    frames, client = _pair()
    unheard = client.send(TextMessage("x" * MOST * 2))
    (closed,) = _events(client, frames.close(1001, "é" * 200))
    assert isinstance(closed, CloseConnection) and closed.reason
    frames.read_farewell(unheard)
    assert not frames.closed
    frames.read_farewell(client.send(closed.response()))
    assert frames.closed


@pytest.mark.parametrize(
    "missing", ["Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"]
)
def test_a_handshake_is_whole(missing: str) -> None:
    headers = {name: value for name, value in HANDSHAKE.items() if name != missing}
    with pytest.raises(InvalidRequest) as refused:
        Frames(_request(headers), MOST)
    assert refused.value.param == "Upgrade"
