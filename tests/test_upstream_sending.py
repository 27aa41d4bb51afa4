"""Sending: a server that does not read, refuses early, or closes what it keeps."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chat.core.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from chat.models.upstream import Upstream
from dev.model import ModelServer
from tests.calls import read_once, request
from tests.harness import Client, StartFunction, wait_until
from tests.test_bad_input import assert_error

LARGE = "x" * 8_000_000
REASON = b'{"error":{"message":"8 MB is too big"}}'
TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: %d\r\n\r\n%b" % (
    len(REASON),
    REASON,
)


@contextmanager
def _serving(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """A server that does this with each connection; its base URL, and the connections so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[int] = []

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                pass

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(1)
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", accepted
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _read_all(upstream: Upstream, text: str = "x") -> bytes:
    call, body = upstream.call(request(text)), b""
    try:
        while (piece := read_once(call, 0.2)) != b"":
            body += piece or b""
    finally:
        call.close()
    return body


def _refuse_early(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(TOO_LARGE)  # the rest stays unread: closing resets the connection


def test_an_early_refusal_is_read_before_the_reset_and_told_once() -> None:
    with _serving(_refuse_early) as (url, accepted):
        with pytest.raises(UpstreamRefused, match="413: 8 MB is too big"):
            _read_all(Upstream(url, "", 5), LARGE)
        assert len(accepted) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_is_told_of_an_early_refusal(
    start_function: StartFunction, chat_id: str, stream: bool
) -> None:
    with _serving(_refuse_early) as (url, accepted):
        client = start_function(
            OPENAI_BASE_URL=url,
            MAX_BODY_BYTES="9000000",
            MAX_PROMPT_TOKENS="9000000",
            MAX_PROMPT_BYTES="9000000",
        ).client
        reply = client.say(chat_id, LARGE, stream=stream)
        assert_error(reply, 502, "upstream_refused")
        assert "8 MB is too big" in reply.json["error"]["message"] and len(accepted) == 1


def test_a_server_that_does_not_read_is_a_timeout_and_blocks_nobody() -> None:
    with _serving(lambda connection: time.sleep(3)) as (url, _):
        call = Upstream(url, "", 0.6).call(request(LARGE))
        longest, began = 0.0, time.monotonic()
        with pytest.raises(UpstreamTimeout):
            while True:
                before = time.monotonic()
                call.work()
                call.read()
                longest = max(longest, time.monotonic() - before)
                read_once(call, 0.05)
        assert longest < 0.4 and time.monotonic() - began < 3


def test_a_turn_whose_model_does_not_read_keeps_its_lease(
    start_function: StartFunction, chat_id: str
) -> None:
    with _serving(lambda connection: time.sleep(8)) as (url, _):
        client: Client = start_function(
            OPENAI_BASE_URL=url,
            MAX_BODY_BYTES="9000000",
            MAX_PROMPT_BYTES="9000000",
            MAX_PROMPT_TOKENS="9000000",
            UPSTREAM_TIMEOUT_SECONDS="3.5",
        ).client
        replies = []
        turn = threading.Thread(target=lambda: replies.append(client.say(chat_id, LARGE)))
        turn.start()
        assert wait_until(lambda: client.get(f"/{chat_id}").status == 200 or not turn.is_alive())
        time.sleep(2.5)  # longer than the lease
        client.get(f"/{chat_id}/chat/stream")  # whoever looks would end a dead turn
        turn.join(20)
        assert_error(replies[0], 504, "upstream_timeout")


def test_a_message_is_sent_twice_however_many_idle_connections_have_died() -> None:
    requests: list[int] = []
    kept = threading.Barrier(10)

    def serve(connection: socket.socket) -> None:
        connection.recv(100_000)
        if len(requests) < 10:
            requests.append(1)
            kept.wait(5)  # so that each of them needs a connection of its own
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection.recv(100_000)  # the next request is read, and not answered
            requests.append(1)
        else:
            requests.append(1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with _serving(serve) as (url, _):
        upstream = Upstream(url, "", 5)
        first = [threading.Thread(target=_read_all, args=(upstream,)) for _ in range(10)]
        for thread in first:
            thread.start()
        for thread in first:
            thread.join(10)
        assert len(requests) == 10
        assert _read_all(upstream) == b"{}"
        assert len(requests) == 12, "on a dead connection, and on a fresh one"


def test_a_message_is_sent_three_times_at_most() -> None:
    def close_at_once(connection: socket.socket) -> None:
        connection.recv(100_000)

    with _serving(close_at_once) as (url, accepted):
        with pytest.raises(UpstreamUnavailable):
            _read_all(Upstream(url, "", 5))
        assert len(accepted) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_breaks_off_is_told_as_far_as_it_came(
    start_function: StartFunction, model: ModelServer, chat_id: str, stream: bool
) -> None:
    def break_off(connection: socket.socket) -> None:
        connection.recv(100_000)
        head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head + b'{"error":{"message":"no such model"}}')

    with _serving(break_off) as (url, accepted):
        client = start_function(OPENAI_BASE_URL=url).client
        reply = client.say(chat_id, "x", stream=stream)
        assert_error(reply, 502, "upstream_refused")
        assert "no such model" in reply.json["error"]["message"] and len(accepted) == 1
