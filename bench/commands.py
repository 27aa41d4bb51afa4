"""`make bench`: what a turn costs in Redis: commands as Upstash bills them, and round trips.

A script is billed as one command, and each call inside it as another. The source is
Redis itself: MONITOR shows every command with its time, and which of them a script has called.
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
from tests.harness import ADMIN_KEY, Client, Function, new_user

_FREE = {"AUTH", "INFO", "PING", "QUIT", "COMMAND", "HELLO", "SELECT", "MONITOR", "CLIENT"}
_SETTLE_SECONDS = 0.3
_LAST_COMMAND = "e5b0-monitored"  # stands in no script, nor in what is said


@dataclass
class Cost:
    """One turn's commands, its round trips (before the model is asked, after its last token, all), its length."""

    commands: Counter[str]
    before_first: int
    after_last: int
    trips: int
    seconds: float

    @property
    def billed(self) -> int:
        return sum(self.commands.values())


@contextmanager
def running(**settings: str) -> Iterator[tuple[Function, ModelServer, RedisServer]]:
    """A function with its Redis and its model, all real."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield from _running(Path(name), settings)


def _running(
    folder: Path, settings: dict[str, str]
) -> Iterator[tuple[Function, ModelServer, RedisServer]]:
    redis, model = RedisServer(folder / "redis").start(), ModelServer().start()
    places = {"OPENAI_BASE_URL": model.url, "REDIS_URL": redis.url}
    function = Function(places | settings, folder / "log")
    try:
        yield function.start(), model, redis
    finally:
        function.kill()
        model.stop()
        redis.stop()


def measure(
    client: Client, model: ModelServer, redis: RedisServer, answer: Answer, *, stream: bool
) -> Cost:
    """The third turn of a chat: all connections are open and all scripts loaded."""
    for _ in range(2):
        client.say("bench", "warm", stream=stream)
    model.enqueue(answer)
    with monitored(redis) as seen:
        began = time.time()
        client.say("bench", "x", stream=stream)
        ended = time.time()
        time.sleep(_SETTLE_SECONDS)
    mine = [c for c in seen if began <= c["time"] <= ended and _name(c) not in _FREE]
    # A thread of its own writes the turn log (XADD); no turn waits for it.
    trips = [c for c in mine if c["client_type"] != "lua" and _name(c) != "XADD"]
    asked = model.requests[-1]
    before = [c for c in trips if c["time"] < asked.asked_at]
    after = [c for c in trips if c["time"] > (asked.last_piece_at or asked.asked_at)]
    return Cost(Counter(map(_name, mine)), len(before), len(after), len(trips), ended - began)


@contextmanager
def monitored(redis: RedisServer) -> Iterator[list[dict[str, Any]]]:
    """The commands that Redis runs meanwhile; complete once the block is left."""
    seen: list[dict[str, Any]] = []
    with redis.client().monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                seen.append(command)
                if _LAST_COMMAND in command["command"]:
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield seen
        redis.client().echo(_LAST_COMMAND)
        thread.join(5)


def _name(command: dict[str, Any]) -> str:
    return str(command["command"].split(" ", 1)[0].upper())


UNSTREAMED = Answer(pieces=["token "] * 500)
STREAMED = Answer(pieces=["token "] * 500, pause=0.0115)  # about six seconds
_KEYS = {"AUTH": "keys", "ADMIN_KEY": ADMIN_KEY}
MODES = {
    "anybody": {},
    "with keys": _KEYS,
    "with keys and every limit": _KEYS
    | {
        "RATE_LIMIT": "1000/minute,9000/hour",
        "DAILY_TOKEN_BUDGET": "1000000000",
        "MAX_CONCURRENT_TURNS": "100",
        "GLOBAL_DAILY_TOKEN_BUDGET": "1000000000",
    },
}


def main() -> None:
    """Print the table of costs."""
    print("| turn | billed commands | round trips before the model / after its last token |")
    print("|---|---|---|")
    for who, settings in MODES.items():
        with running(**settings) as (function, model, redis):
            client = as_user(function)
            for kind, answer, stream in (
                ("unstreamed", UNSTREAMED, False),
                ("streamed, 500 tokens in 6 s", STREAMED, True),
            ):
                cost = measure(client, model, redis, answer, stream=stream)
                trips = f"{cost.before_first} / {cost.after_last}"
                print(f"| {kind}, {who} | {cost.billed} | {trips} |")


def as_user(function: Function) -> Client:
    """A client with a user's key if the function requires one."""
    if function.client.get("/me").status == 200:
        return function.client
    return new_user(function.client.base)[1]


if __name__ == "__main__":
    main()
