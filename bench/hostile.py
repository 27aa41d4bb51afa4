"""`python -m bench.hostile`: three hundred bad clients at once, and what another owner notices.

One instance with the default of threads. Each kind of client comes 300 times and stays; meanwhile
another owner says something, again and again. The table shows the longest of its turns, and the
memory of the instance.
"""

import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, new_user

CLIENTS, TURNS, LIMIT_SECONDS = 300, 20, 2.0


class Attack:
    """Opens sockets to one instance as one owner, and keeps them open."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self.sockets: list[socket.socket] = []

    def send(self, data: str, receive_buffer: int = 0) -> None:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", self._port))
        connection.sendall(data.encode())
        self.sockets.append(connection)

    def head(self, method: str, path: str, length: int = 0) -> str:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"Authorization: Bearer {self._key}", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""])

    def slow_body(self) -> None:
        self.send(self.head("POST", "/busy/chat", 1000) + '{"c')

    def half_head(self) -> None:
        self.send(self.head("POST", "/busy/chat", 1000)[:-30])

    def unread_history(self) -> None:
        self.send(self.head("GET", "/long/chat"), receive_buffer=4096)

    def waiting_message(self) -> None:
        body = json.dumps({"content": "I wait"})
        self.send(self.head("POST", "/busy/chat", len(body)) + body)


def memory_mib(pid: int) -> float:
    """Resident memory of the server's worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    sizes = [Path(f"/proc/{child}/status").read_text() for child in children]
    return max(int(text.split("VmRSS:")[1].split()[0]) for text in sizes) / 1024


def longest_turn(client: Client, chat_id: str) -> float:
    """Seconds of the slowest of some turns."""
    slowest = 0.0
    for _ in range(TURNS):
        began = time.monotonic()
        reply = client.say(chat_id, "Hello")
        assert reply.status == 200, (reply.status, reply.body)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def main() -> int:
    """Print the table; 1 when another owner had to wait for too long."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        redis, model = RedisServer(folder / "redis").start(), ModelServer().start()
        settings = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY, "QUEUE_SECONDS": "60"}
        where = {"OPENAI_BASE_URL": model.url, "REDIS_URL": redis.url}
        function = Function(settings | where, folder / "log").start()
        try:
            return _attack(function, model)
        finally:
            function.kill()
            model.stop()
            redis.stop()


def _attack(function: Function, model: ModelServer) -> int:
    (_, bad), (_, good) = new_user(function.client.base), new_user(function.client.base)
    for _ in range(6):
        bad.say("long", "x" * 700_000)
    key = bad.headers["Authorization"].removeprefix("Bearer ")
    print(f"| {CLIENTS} clients of one owner | another's slowest of {TURNS} turns, s | MiB |")
    print("|---|---|---|")
    print(f"| none | {longest_turn(good, 'quiet'):.2f} | {memory_mib(function.pid):.0f} |")
    worst = 0.0
    for kind in ("slow_body", "half_head", "unread_history", "waiting_message"):
        attack = Attack(function.port, key)
        if kind == "waiting_message":
            model.enqueue(Answer(pieces=["slowly "] * 100, pause=0.2))
            attack.waiting_message()  # runs, and the others wait for it
        act: Callable[[], None] = getattr(attack, kind)
        for _ in range(CLIENTS):
            act()
        seconds, mib = longest_turn(good, kind), memory_mib(function.pid)
        worst = max(worst, seconds)
        print(f"| {kind.replace('_', ' ')} | {seconds:.2f} | {mib:.0f} |", flush=True)
        for connection in attack.sockets:
            connection.close()
    return int(worst > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
