"""What the tests of the promises share: raw sockets, a frozen Redis, what Redis and a process hold."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dev.redis_server import RedisCluster, RedisServer
from tests.harness import ROOT, Client, Function, Reply, clean_environment


@contextlib.contextmanager
def frozen(redis: RedisServer) -> Iterator[Callable[[], None]]:
    """Redis takes what it is sent and does nothing, until `thaw` is called or the block is left."""

    def thaw() -> None:
        os.kill(redis.pid, signal.SIGCONT)

    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield thaw
    finally:
        thaw()


def in_background(call: Callable[..., Any], *args: Any, **options: Any) -> "Future[Any]":
    """Run it in a thread of its own; what it returns or raises is in the future."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, *args, **options)
    pool.shutdown(wait=False)
    return future


def exchange(port: int, data: bytes, *, seconds: float = 5.0) -> bytes:
    """Send these bytes, and read until the other side closes or the time is over."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        return read_all(connection, seconds)


def read_all(connection: socket.socket, seconds: float = 5.0) -> bytes:
    """Until the other side closes, or the time is over."""
    give_up, data = time.monotonic() + seconds, b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while (left := give_up - time.monotonic()) > 0:
            connection.settimeout(left)
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
    return data


def head_of(
    method: str, path: str, length: int | None = None, *headers: str, host: str = "localhost"
) -> bytes:
    """The head of a request; its connection is closed after the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@contextlib.contextmanager
def held_open(port: int, count: int, data: bytes, receive_bytes: int = 0) -> Iterator[None]:
    """So many connections that have sent this and then neither send nor read."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.connect(("127.0.0.1", port))
            connection.sendall(data)
        yield


def keys_of(redis_server: RedisServer | RedisCluster, chat_id: str) -> list[str]:
    """The keys in Redis that have this chat's id in their name."""
    keys = redis_server.client().scan_iter(f"*:{chat_id}*", count=1000)
    return sorted(key.decode() for key in keys)


def commands_run(redis: RedisServer) -> int:
    """How many commands Redis has run so far, those inside of scripts included."""
    return sum(stat["calls"] for stat in redis.client().info("commandstats").values())


def peak_mib(function: Function) -> float:
    """The most memory that a process of the function has had resident."""
    children = Path(f"/proc/{function.pid}/task/{function.pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in [str(function.pid), *children]]
    peaks = [int(text.partition("VmHWM:")[2].split()[0]) for text in texts]
    return max(peaks) / 1024


def start_and_fail(folder: Path = ROOT, **settings: str) -> str:
    """What it says when it refuses to start with these settings; "" when it does start."""
    environment = clean_environment() | {"REDIS_URL": "redis://127.0.0.1:1", "GPT_API_KEY": "k"}
    done = subprocess.run(
        [sys.executable, "-c", "import main"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stderr if done.returncode else ""


def answers_within(seconds: float, client: Client, path: str = "/health") -> bool:
    """Whether a GET is answered with 200 so soon."""
    try:
        return client.request("GET", path, timeout=seconds).status == 200
    except Exception:
        return False


def is_told_so(reply: Reply) -> bool:
    """An unstreamed repeat is told that its turn was taken back, and is not answered anew."""
    if reply.status == 200:
        return bool(reply.json["status"] == "cancelled")
    return reply.status in (404, 409, 410)
