"""Clients that send slowly, or nonsense: they hold no thread, and are answered in our words."""

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from chat.host.request_buffer import RequestBuffer, RequestRefused
from tests.harness import Client, Function, StartFunction

HEAD = b"POST /c/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n"
BODY = b'{"content": "hello"}'
WITH_LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [WITH_LENGTH + BODY, chunked(BODY[:7], BODY[7:])])
def test_a_request_is_whole_at_its_last_byte_wherever_it_is_cut(request_bytes: bytes) -> None:
    for cut in range(len(request_bytes)):
        buffer = RequestBuffer(1000, 10.0, 0.0)
        buffer.receive(request_bytes[:cut], 1.0)
        assert not buffer.whole, request_bytes[:cut]
        buffer.receive(request_bytes[cut:], 2.0)
        assert buffer.whole and bytes(buffer.data) == request_bytes


@pytest.mark.parametrize(
    "nonsense",
    [
        WITH_LENGTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
        WITH_LENGTH[:-2] + b"Content-Length: 5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz",
        HEAD + b"Content-Length: 2000\r\n\r\n",
    ],
)
def test_what_is_to_be_refused_is_not_waited_for(nonsense: bytes) -> None:
    buffer = RequestBuffer(1000, 10.0, 0.0)
    buffer.receive(nonsense, 1.0)
    assert buffer.whole


@pytest.mark.parametrize(
    "chunks", [b"fffff\r\n", b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n", b"1;a=b\r\nx\r\n" * 2000]
)
def test_a_chunked_body_that_is_too_large_is_refused_before_it_has_come(chunks: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        RequestBuffer(1000, 10.0, 0.0).receive(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, 1.0
        )
    assert refused.value.status == 413


def test_a_head_without_end_is_refused_by_its_size_and_by_its_time() -> None:
    with pytest.raises(RequestRefused) as refused:
        RequestBuffer(1000, 10.0, 0.0).receive(HEAD + b"X: " + b"x" * 70_000, 1.0)
    assert refused.value.status == 431
    slow = RequestBuffer(1000, 10.0, 0.0)
    slow.receive(HEAD, 1.0)
    with pytest.raises(RequestRefused) as refused:
        slow.receive(b"", 11.0)
    assert refused.value.status == 408


@pytest.fixture(scope="module")
def small(start_function: StartFunction) -> Function:
    return start_function(THREADS="4", CORS_ORIGINS="https://app.example")


@pytest.fixture
def opened(small: Function) -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for connection in sockets:
        connection.close()


def dial(small: Function, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", small.port), 5)
    connection.sendall(data)
    return connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines[1:])
    length = int(headers.get("Content-Length", 0))
    while len(body) < length:
        body += connection.recv(65536)
    return int(lines[0].split()[1]), headers, body


def test_slow_bodies_and_half_heads_keep_nobody_waiting(
    small: Function, opened: list[socket.socket]
) -> None:
    for _ in range(30):
        opened.append(dial(small, WITH_LENGTH + BODY[:3]))
        opened.append(dial(small, HEAD[:-10]))
        opened.append(dial(small))
    began = time.monotonic()
    assert Client(small.client.base).get("/health").status == 200
    assert time.monotonic() - began < 2


def test_a_request_that_comes_byte_by_byte_is_answered(small: Function) -> None:
    connection = dial(small)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in WITH_LENGTH.replace(b"/c/chat", b"/slow/chat") + BODY:
        connection.sendall(bytes([byte]))
    assert read_answer(connection)[0] == 200


def test_a_client_that_asks_whether_to_send_its_body_is_told_once(small: Function) -> None:
    connection = dial(small, WITH_LENGTH[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(BODY)
    assert read_answer(connection)[0] == 200


def test_requests_one_after_the_other_on_one_connection_are_all_answered(small: Function) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection = dial(small, get + get + get)
    statuses = [read_answer_in_turn(connection, seen) for seen in [bytearray()] for _ in range(3)]
    assert len(set(statuses)) == 1


def read_answer_in_turn(connection: socket.socket, left: bytearray) -> int:
    while b"\r\n\r\n" not in left:
        left += connection.recv(65536)
    head, _, _ = bytes(left).partition(b"\r\n\r\n")
    found = re.search(rb"Content-Length: (\d+)", head)
    size = len(head) + 4 + int(found[1] if found else 0)
    while len(left) < size:
        left += connection.recv(65536)
    status = int(left.split(b" ", 2)[1])
    del left[:size]
    return status


@pytest.mark.parametrize(
    ("nonsense", "status", "code"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Transfer-Encoding: tea\r\n\r\n", 501, "not_implemented"),
        (HEAD + b"Expect: tea\r\n\r\n", 417, "expectation_failed"),
        (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
    ],
)
def test_what_the_server_itself_refuses_is_json_that_a_web_app_can_read(
    small: Function, nonsense: bytes, status: int, code: str
) -> None:
    found, headers, body = read_answer(dial(small, nonsense))
    assert (found, json.loads(body)["error"]["code"]) == (status, code)
    assert headers["Content-Type"] == "application/json"
    if b"Origin" in nonsense:
        assert headers["Access-Control-Allow-Origin"] == "https://app.example"
