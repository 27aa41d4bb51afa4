"""`make run` as a person uses it, and the same function on a Redis of one's own."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chat.core.errors import UpstreamUnavailable
from chat.models.upstream import Upstream
from dev.redis_server import RedisServer
from tests.calls import read_once, request
from tests.harness import ROOT, Client, Function, free_port, wait_until
from tests.tls import self_signed, serve_tls


class MakeRun(Function):
    """The command behind `make run`."""

    def start(self, *, wait: bool = True) -> "MakeRun":
        self._environment["PORT"] = str(self.port)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dev.run"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_up()
        return self


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_chat_survives_a_restart(tmp_path: Path, stop_signal: signal.Signals) -> None:
    first = MakeRun({"DATA_DIR": str(tmp_path)}, tmp_path / "log").start()
    try:
        events = first.client.say("demo", "My name is Ada.", stream=True).events
        assert events[-1].data["content"] == 'You sent 1 message. Now: "My name is Ada."'
        second = first.client.say("demo", "What is my name?").json["content"]
        assert (
            second
            == 'You sent 3 messages. First you said: "My name is Ada." Now: "What is my name?"'
        )
        os.killpg(first.pid, stop_signal)
        first.stop()
        assert "Traceback" not in first.log.read_text()
        again = MakeRun({"DATA_DIR": str(tmp_path)}, tmp_path / "log2").start()
        try:
            assert [m["content"] for m in again.client.get("/demo/chat").json][-1] == second
            assert (
                again.client.say("demo", "Still there?")
                .json["content"]
                .startswith("You sent 5 messages.")
            )
        finally:
            again.stop()
    finally:
        first.stop()
    RedisServer(tmp_path).start().stop()  # its own Redis has ended with it: the data is free


def test_two_at_once_do_not_share_their_data(tmp_path: Path) -> None:
    first = MakeRun({"DATA_DIR": str(tmp_path)}, tmp_path / "log").start()
    try:
        with pytest.raises(RuntimeError, match="another Redis is using"):
            MakeRun({"DATA_DIR": str(tmp_path)}, tmp_path / "log2").start()
    finally:
        first.stop()


def test_a_launcher_that_is_killed_takes_everything_with_it(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    first = MakeRun({"DATA_DIR": str(tmp_path)}, tmp_path / "log").start()
    first.client.say("demo", "x")
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    assert wait_until(lambda: not _listens(first.port)), "the function has ended"
    assert wait_until(lambda: _starts(RedisServer(tmp_path))), "its Redis has ended"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _starts(server: RedisServer) -> bool:
    try:
        server.start().stop()
    except RuntimeError:
        return False
    return True


def test_a_redis_over_tcp_with_a_password(start_function: Any, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, port=free_port(), password="p@ss/word:1", persist=True).start()
    settings = {
        "REDIS_URL": "",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "REDIS_PASSWORD": redis.password,
    }
    try:
        function = start_function(**settings)
        function.client.say("demo", "one")
        function.stop()
        redis.stop()
        redis.start()
        client: Client = start_function(**settings).client
        assert client.say("demo", "two").json["content"].startswith("You sent 3 messages.")
    finally:
        redis.stop()


def test_a_model_api_over_tls_is_checked_against_the_trusted_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    served = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"5\r\nhello\r\n" * 9000
        + b"0\r\n\r\n"
    )
    port = serve_tls(certificate, served)
    with pytest.raises(UpstreamUnavailable, match="SSL"):
        _read(port)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert _read(port) == b"hello" * 9000


def _read(port: int) -> bytes:
    call = Upstream(f"https://localhost:{port}/v1", "", 5).call(request())
    body = b""
    while (piece := read_once(call, 1.0)) != b"":
        body += piece or b""
    call.close()
    return body
