"""Connections to the model API: kept, replaced, slow, encrypted, and not HTTP at all."""

import hashlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.core.completions import encode_request
from chat.core.errors import UpstreamUnavailable
from chat.core.quirks import Quirks
from chat.models.upstream import Call, Upstream
from dev.model import Answer, ModelServer
from tests.calls import read_once, request
from tests.harness import Client
from tests.tls import self_signed


def test_connections_are_used_again_also_after_a_stream(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    for n in range(4):
        client.say(chat_id, "x", stream=n % 2 == 0)
    assert len({asked.connection for asked in model.requests}) == 1


def test_a_connection_that_was_closed_while_idle_is_replaced_without_a_retry(
    model: ModelServer,
) -> None:
    with _raw_upstream([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", None]) as (
        port,
        accepted,
    ):
        upstream = Upstream(f"http://127.0.0.1:{port}/v1", "", 5)
        started = time.monotonic()
        for _ in range(3):
            assert _read_all(upstream.call(request())) == b"{}"
        assert time.monotonic() - started < 0.4, "no back-off was needed"
    assert len(accepted) == 3


def test_a_server_that_never_speaks_http_is_unavailable(model: ModelServer) -> None:
    with (
        _raw_upstream([b"220 smtp.example ESMTP\r\n\r\n", None]) as (port, _),
        pytest.raises(UpstreamUnavailable),
    ):
        _read_all(Upstream(f"http://127.0.0.1:{port}/v1", "", 5).call(request()))


def test_an_answer_in_single_bytes_is_read(model: ModelServer) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with _raw_upstream([bytes([b]) for b in whole]) as (port, _):
        assert _read_all(Upstream(f"http://127.0.0.1:{port}/v1", "", 5).call(request())) == b"hello"


@pytest.mark.parametrize("tls", [False, True])
def test_a_prompt_of_megabytes_arrives_whole_at_a_model_that_reads_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    certificate = self_signed(tmp_path) if tls else None
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    port = _serve_hashes(certificate)
    base = f"http{'s' if tls else ''}://localhost:{port}/v1"
    upstream = Upstream(base, "", 5)
    for size in (20, 12_000_000, 20):  # on one connection
        asked = request(random.randbytes(size // 2).hex())
        body = encode_request(asked, Quirks())
        assert _read_all(upstream.call(asked)) == hashlib.sha256(body).hexdigest().encode()


def _serve_hashes(certificate: Path | None) -> int:
    """Answers requests of one connection with the hash of their body, after a rest."""
    listener = socket.create_server(("localhost", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate)

    def serve() -> None:
        with listener, listener.accept()[0] as plain:
            connection = context.wrap_socket(plain, server_side=True) if certificate else plain
            with connection.makefile("rb") as received:
                while received.readline():
                    time.sleep(0.2)
                    lines = iter(received.readline, b"\r\n")
                    head = dict(line.decode().strip().lower().split(": ", 1) for line in lines)
                    body = received.read(int(head["content-length"]))
                    answer = hashlib.sha256(body).hexdigest()
                    connection.sendall(
                        f"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n{answer}".encode()
                    )

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_nothing_waits_longer_than_it_is_told_to(model: ModelServer) -> None:
    model.enqueue(Answer(status=500, headers={"Retry-After": "1"}), Answer(hang=0.5, raw=b"{}"))
    call = Upstream(model.url, "", 5).call(request())
    longest = 0.0
    while True:
        before = time.monotonic()
        piece = read_once(call, 0.05)
        longest = max(longest, time.monotonic() - before)
        if piece == b"":
            break
    assert longest < 0.4
    call.close()


def _read_all(call: Call) -> bytes:
    body = b""
    while (piece := read_once(call, 0.2)) != b"":
        body += piece or b""
    call.close()
    return body


class _raw_upstream:
    """A server that sends these pieces to whoever asks; None closes the connection."""

    def __init__(self, pieces: list[bytes | None]) -> None:
        self._pieces = pieces
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepted: list[int] = []

    def __enter__(self) -> tuple[int, list[int]]:
        threading.Thread(target=self._serve, daemon=True).start()
        return self._listener.getsockname()[1], self._accepted

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        for connection in self._connections():
            with connection:
                connection.recv(65536)
                for piece in self._pieces:
                    if piece is None:
                        break
                    connection.sendall(piece)
                else:
                    time.sleep(0.2)

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted.append(connection.fileno())
            yield connection
