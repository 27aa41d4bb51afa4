"""Clients that do nothing, or little, with a request or an answer: nobody else waits for them."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dev.model import ModelServer
from tests.harness import Client, Function, StartFunction, wait_until
from tests.promises import exchange, head_of, read_all

MB = 1024 * 1024


@pytest.fixture(scope="module")
def impatient(start_function: StartFunction) -> Function:
    return start_function(THREADS="4", CLIENT_TIMEOUT_SECONDS="1", MAX_PROMPT_TOKENS=str(10**7))


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for connection in sockets:
        connection.close()


def dial(function: Function, data: bytes, receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", function.port))
    connection.sendall(data)
    return connection


def test_clients_that_never_close_their_connection_do_not_keep_others_from_theirs(
    impatient: Function, opened: list[socket.socket]
) -> None:
    for _ in range(20):
        opened.append(dial(impatient, head_of("GET", "/livez")))
        assert opened[-1].recv(1000).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    assert Client(impatient.client.base).get("/livez").status == 200
    assert time.monotonic() - began < 1, "two seconds for each, one after the other"


def test_a_request_whose_rest_does_not_come_is_answered_so(impatient: Function) -> None:
    for data in (head_of("POST", "/c/chat", 100) + b'{"c', head_of("GET", "/livez")[:-2]):
        reply = exchange(impatient.port, data)
        assert reply.startswith(b"HTTP/1.1 408"), reply
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
    assert exchange(impatient.port, b"") == b"", "who has said nothing is told nothing"


def test_what_half_sent_requests_hold_is_limited_and_given_back(
    impatient: Function, opened: list[socket.socket]
) -> None:
    half = head_of("POST", "/c/chat", MB) + b"x" * (MB - 1000)
    refused = 0
    for _ in range(70):
        opened.append(dial(impatient, b""))
        try:
            opened[-1].sendall(half)
        except ConnectionError:
            refused += 1
    assert wait_until(lambda: Client(impatient.client.base).get("/livez").status == 200)
    replies = [read_all(connection) for connection in opened]
    assert any(reply.startswith(b"HTTP/1.1 503") for reply in replies) or refused
    body = b'{"content": "x"}'
    for n in range(3):
        slow = dial(impatient, head_of("POST", f"/after-{n}/chat", len(body)) + body[:5])
        opened.append(slow)
        time.sleep(0.1)
        slow.sendall(body[5:])
        assert read_all(slow).startswith(b"HTTP/1.1 200"), "as if nothing had been"


def test_who_takes_nothing_of_a_large_answer_is_hung_up_and_who_takes_some_gets_all(
    impatient: Function, model: ModelServer, chat_id: str, opened: list[socket.socket]
) -> None:
    for _ in range(8):
        assert impatient.client.say(chat_id, "x" * 900_000).status == 200
    whole = impatient.client.get(f"/{chat_id}/chat").body
    stuck = dial(impatient, head_of("GET", f"/{chat_id}/chat"), receive_bytes=4096)
    opened.append(stuck)
    time.sleep(3)
    assert len(read_all(stuck)) < len(whole)
    slow = dial(impatient, head_of("GET", f"/{chat_id}/chat"), receive_bytes=4096)
    opened.append(slow)
    data = b""
    for _ in range(8):
        time.sleep(0.3)
        data += slow.recv(65536)
    data += read_all(slow, 20)
    assert data.partition(b"\r\n\r\n")[2] == whole


def test_large_answers_are_as_small_ones(
    impatient: Function, model: ModelServer, chat_id: str
) -> None:
    client = impatient.client
    for n in range(3):
        assert client.say(chat_id, f"{n}" * 50_000, stream=n > 0).status == 200
    history = client.get(f"/{chat_id}/chat")
    assert history.headers["ETag"] and history.headers["X-Request-Id"]
    assert int(history.headers["Content-Length"]) == len(history.body) > 65536
    assert [m["content"][0] for m in history.json if m["role"] == "user"] == ["0", "1", "2"]
    export = client.get("/me/export")
    assert export.headers["Transfer-Encoding"] == "chunked"
    assert export.headers["Content-Disposition"] and export.body.endswith(b"\n")
    lines = [json.loads(line) for line in export.body.splitlines()]
    old = exchange(impatient.port, head_of("GET", "/me/export").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert len(old.partition(b"\r\n\r\n")[2].splitlines()) == len(lines)
    head = client.request("HEAD", f"/{chat_id}/chat")
    assert (head.status, head.body) == (200, b"")
    log = [json.loads(line) for line in impatient.log.read_text().splitlines() if chat_id in line]
    assert any((x["method"], x["status"]) == ("GET", 200) for x in log)
    with ThreadPoolExecutor(16) as pool:
        again = pool.map(lambda _: client.get(f"/{chat_id}/chat").body, range(64))
    assert set(again) == {history.body}


def test_a_pipelined_request_that_is_not_whole_yet_is_not_lost(impatient: Function) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for cut in (1, 10, len(get) - 1):
        connection = dial(impatient, get + get[:cut])
        time.sleep(0.2)
        connection.sendall(get[cut:] + head_of("GET", "/livez"))
        assert read_all(connection).count(b"HTTP/1.1 200") == 3
        connection.close()
