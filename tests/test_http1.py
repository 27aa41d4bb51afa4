"""The reader of HTTP/1.1 responses, fed in every way a network can."""

import pytest

from chat.core.http1 import ProtocolError, ResponseDecoder, encode_post

CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Name:  v \r\n\r\n"
    b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\nwonderful!\r\n0\r\nTrailer: x\r\n\r\n"
)
SIZED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nhello world"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\nhello world"


def _read(response: bytes, size: int) -> tuple[ResponseDecoder, bytes]:
    decoder = ResponseDecoder()
    body = b"".join(
        decoder.receive(response[at : at + size]) for at in range(0, len(response), size)
    )
    return decoder, body


@pytest.mark.parametrize("size", range(1, len(CHUNKED) + 1))
def test_a_chunked_body_in_pieces_of_any_size(size: int) -> None:
    decoder, body = _read(CHUNKED, size)
    assert (decoder.status, body) == (200, b"hello wonderful!")
    assert decoder.headers["x-name"] == "v"
    assert decoder.complete and decoder.reusable


@pytest.mark.parametrize("size", range(1, len(SIZED) + 1))
def test_a_sized_body_in_pieces_of_any_size(size: int) -> None:
    decoder, body = _read(SIZED, size)
    assert (decoder.status, body, decoder.reusable) == (404, b"hello world", True)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    decoder, body = _read(UNTIL_CLOSED, 3)
    assert (body, decoder.complete) == (b"hello world", False)
    decoder.end()
    assert decoder.complete and not decoder.reusable


@pytest.mark.parametrize("response", [CHUNKED, SIZED])
def test_a_close_anywhere_inside_is_a_protocol_error(response: bytes) -> None:
    for cut in range(len(response)):
        decoder = ResponseDecoder()
        decoder.receive(response[:cut])
        with pytest.raises(ProtocolError):
            decoder.end()


def test_a_closing_server_is_not_reused_and_neither_is_one_that_says_more() -> None:
    closing, _ = _read(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 9)
    talking, body = _read(SIZED + b"HTTP/1.1 200", 999)
    old, _ = _read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 9)
    assert body == b"hello world"
    assert (closing.reusable, talking.reusable, old.reusable) == (False, False, False)


@pytest.mark.parametrize(
    "head, body",
    [
        (b"Transfer-Encoding: chunked", b"2\nhi\n0\n\n"),
        (b"Transfer-Encoding: chunked", b"0002  \r\nhi\r\n000\r\nA: b\r\nC: d\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 9", b"2\r\nhi\r\n0\r\n\r\n"),
        (b"Content-Length: 2\r\nContent-Length: 2", b"hi"),
        (b"no colon here\r\nContent-Length: 2", b"hi"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 999])
def test_odd_servers_are_understood(head: bytes, body: bytes, size: int) -> None:
    decoder, read = _read(b"HTTP/1.1 200\r\n" + head + b"\r\n\r\n" + body, size)
    assert (decoder.status, read, decoder.reusable) == (200, b"hi", True)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    ],
)
def test_garbage_is_refused(response: bytes) -> None:
    with pytest.raises(ProtocolError):
        _read(response, 999_999)


def test_a_request_is_one_piece_of_bytes() -> None:
    assert encode_post("/v1/x", "h:1", {"A": "b"}, b"{}") == (
        b"POST /v1/x HTTP/1.1\r\nHost: h:1\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    )
