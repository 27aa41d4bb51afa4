"""`make bench`: the cost of a refusal, beside that of a turn.

Counts the CPU time of the worker process, so that other load on the machine hardly matters.
"""

import os
import statistics
import uuid
from collections.abc import Callable
from pathlib import Path

from bench.commands import running
from chat.core.credentials import make_key
from dev.model import Answer
from tests.harness import ADMIN_KEY, Client, Function, new_user

_REQUESTS = 100
_PAUSE = 0.001
_ROUNDS = 5
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(function: Function) -> float:
    """CPU time of the server and its worker so far."""
    pids = [function.pid, *_children(function.pid)]
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS


def _children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cost(function: Function, ask: Callable[[], int], status: int) -> float:
    """CPU milliseconds per request that is answered with `status`."""
    before = cpu_seconds(function)
    for _ in range(_REQUESTS):
        assert ask() == status
    return (cpu_seconds(function) - before) * 1000 / _REQUESTS


def main() -> None:
    """Print the table of costs."""
    with running(AUTH="keys", ADMIN_KEY=ADMIN_KEY) as (function, model, _):
        model.answer = lambda body: Answer(pieces=["word "] * 200, pause=_PAUSE)
        base = function.client.base
        user_id, user = new_user(base)
        _, limited = new_user(base, rate_limit="1/day")
        limited.say("bench", "x")
        wrong = Client(base, {"Authorization": make_key(user_id).text})
        subjects: dict[str, tuple[Callable[[], int], int]] = {
            "a streamed turn of 200 tokens": (
                lambda: user.say(uuid.uuid4().hex, "x", stream=True).status,
                200,
            ),
            "an unstreamed turn": (lambda: user.say(uuid.uuid4().hex, "x").status, 200),
            "no key": (lambda: function.client.say("bench", "x").status, 401),
            "a wrong key": (lambda: wrong.say("bench", "x").status, 401),
            "over its limit": (lambda: limited.say("bench", "x").status, 429),
        }
        costs: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(_ROUNDS):
            for name, (ask, status) in subjects.items():
                costs[name].append(cost(function, ask, status))
    print("\n| request | CPU ms | of a streamed turn | of an unstreamed one |\n|---|---|---|---|")
    streamed, unstreamed, *_ = medians = [statistics.median(each) for each in costs.values()]
    for name, median in zip(costs, medians, strict=True):
        print(f"| {name} | {median:.2f} | {median / streamed:.2f} | {median / unstreamed:.2f} |")


if __name__ == "__main__":
    main()
