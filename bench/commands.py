"""`make bench`: what a turn costs in Redis: commands as Upstash bills them, and round trips.

A script is billed as one command, and each call inside it as another. Redis itself is asked:
MONITOR shows every command with its time, and which of them came out of a script.
"""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function

_FREE = {"AUTH", "INFO", "PING", "QUIT", "COMMAND", "HELLO", "SELECT", "MONITOR", "CLIENT"}
_SETTLE_SECONDS = 0.3


@dataclass
class Cost:
    """One turn's commands, and its round trips before the first token and after the last."""

    commands: Counter[str]
    before_first: int
    after_last: int

    @property
    def billed(self) -> int:
        return sum(self.commands.values())


@contextmanager
def running() -> Iterator[tuple[Client, ModelServer, RedisServer]]:
    """A function with its Redis and its model, all real."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    redis, model = RedisServer(folder / "redis").start(), ModelServer().start()
    function = Function({"OPENAI_BASE_URL": model.url, "REDIS_URL": redis.url}, folder / "log")
    try:
        yield function.start().client, model, redis
    finally:
        function.kill()
        model.stop()
        redis.stop()


def measure(
    client: Client, model: ModelServer, redis: RedisServer, answer: Answer, *, stream: bool
) -> Cost:
    """The third turn of a chat, when all connections are open and all scripts are known."""
    for _ in range(2):
        client.say("bench", "warm", stream=stream)
    model.enqueue(answer)
    with _monitored(redis) as seen:
        began = time.time()
        first, last = _talk(client, stream)
        ended = time.time()
        time.sleep(_SETTLE_SECONDS)
    mine = [c for c in seen if began <= c["time"] <= ended and _name(c) not in _FREE]
    # The log (XADD) is written by a thread of its own: nobody waits for it.
    trips = [c for c in mine if c["client_type"] != "lua" and _name(c) != "XADD"]
    before = [c for c in trips if c["time"] < first]
    after = [c for c in trips if c["time"] > last]
    return Cost(Counter(map(_name, mine)), len(before), len(after))


def _talk(client: Client, stream: bool) -> tuple[float, float]:
    """When the first and the last token were seen; of an unstreamed turn, the model's call is the token."""
    if not stream:
        client.say("bench", "x")
        return 0.0, 0.0
    deltas = []
    for event in client.stream("/bench/chat", {"content": "x", "stream": True}).events:
        if event.name == "delta":
            deltas.append(time.time())
    return deltas[0], deltas[-1]


@contextmanager
def _monitored(redis: RedisServer) -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    with redis.client().monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                seen.append(command)
                if "the end" in command["command"]:
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield seen
        redis.client().echo("the end")
        thread.join(5)


def _name(command: dict[str, Any]) -> str:
    return str(command["command"].split(" ", 1)[0].upper())


UNSTREAMED = Answer(pieces=["token "] * 500)
STREAMED = Answer(pieces=["token "] * 500, pause=0.0115)  # about six seconds


def main() -> None:
    print("| turn | billed commands | goal | round trips before the first token / after the last |")
    print("|---|---|---|---|")
    with running() as (client, model, redis):
        cost = measure(client, model, redis, UNSTREAMED, stream=False)
        trips = cost.commands["EVALSHA"]
        print(f"| unstreamed | {cost.billed} | 12 | {trips} in all |")
        began = time.monotonic()
        cost = measure(client, model, redis, STREAMED, stream=True)
        seconds = time.monotonic() - began
        print(
            f"| streamed, 500 tokens in {seconds:.1f} s | {cost.billed} | 26 | {cost.before_first} / {cost.after_last} |"
        )
        print(f"\n{dict(cost.commands)}")


if __name__ == "__main__":
    main()
