"""What `make chaos` runs on: instances, Redis, a failing model, and a record of all they did."""

import hashlib
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function

CLIENTS, CHATS, INSTANCES = 16, 40, 3
LEASE_SECONDS, LOG_SECONDS = 3, 8
WORDS = ["alpha ", "βήτα ", "😀 ", "漢字 ", "\n", "delta ", "👩‍👩‍👧 "]
ANSWER_LOST = (urllib3.exceptions.HTTPError, OSError, ValueError)


@dataclass
class Said:
    """One message of a client, and the outcome that the client was told."""

    chat_id: str
    content: str
    twice: bool
    outcome: str = "unknown"
    message: dict[str, Any] = field(default_factory=dict)


@dataclass
class Heard:
    """What a client has received of a stream."""

    turn_id: str = ""
    text: str = ""


class World:
    """Everything that runs, and everything that was recorded."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.said: list[Said] = []
        self.prompts: list[tuple[str, int, str]] = []
        self.wrong: list[str] = []
        self.ending = threading.Event()
        self.redis = RedisServer(folder / "redis", persist=True).start()
        self.model = ChaoticModel(self)
        settings = {
            "OPENAI_BASE_URL": self.model.start().url,
            "REDIS_URL": self.redis.url,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            # Too high to refuse anybody; set so that the counting behind the limits is tested.
            "RATE_LIMIT": "1000000/day",
            "DAILY_TOKEN_BUDGET": "1000000000",
            "MAX_CONCURRENT_TURNS": "1000",
            "MAX_CHATS_PER_OWNER": "100000",
            "MAX_STORED_BYTES_PER_OWNER": "1000000000000",
            "CHAT_TTL_SECONDS": "3600",
            "LOG_SECONDS": str(LOG_SECONDS),
            "KEEPALIVE_SECONDS": "1",
            "UPSTREAM_TIMEOUT_SECONDS": "2",
            "STORE_PATIENCE_SECONDS": "20",
            "MAX_PROMPT_TOKENS": "1500",
        }
        self.functions = [
            Function(settings, folder / f"function-{n}.log").start() for n in range(INSTANCES)
        ]

    def any_client(self) -> Client:
        return self.random.choice(self.functions).client

    def stop(self) -> None:
        for function in self.functions:
            function.kill()
        self.model.stop()
        self.redis.stop()


class ChaoticModel(ModelServer):
    """Answers with words that name the question; now and then fails, in every way there is."""

    def __init__(self, world: World) -> None:
        super().__init__(answer=self._answer)
        self._world = world

    def _answer(self, body: dict[str, Any]) -> Answer:
        self.requests.clear()  # what is needed of them is recorded below
        said = _contents(body["messages"])
        if not said[0].startswith("gone-"):  # else its history is deleted: see forgetting.py
            self._world.prompts.append((said[0], len(said) - 1, digest(said[:-1])))
        dice = self._world.random
        pieces = [f"re {said[-1]}: ", *dice.choices(WORDS, k=dice.randrange(1, 12))]
        kind = dice.random()
        self._world.counts["model was asked"] += 1
        if kind < 0.03:
            self._world.counts["model said 429 or 500"] += 1
            return Answer(
                status=dice.choice([429, 500]), error="busy", headers={"Retry-After": "0"}
            )
        if kind < 0.05:
            self._world.counts["model broke off"] += 1
            return Answer(pieces=pieces, pause=0.005, cut=True)
        if kind < 0.055:
            self._world.counts["model fell silent"] += 1
            return Answer(pieces=pieces, hang=2.5)
        return Answer(pieces=pieces, pause=dice.choice([0, 0.002, 0.01, 0.05]))


def _contents(messages: list[dict[str, str]]) -> list[str]:
    """What was said; questions that went without an answer are joined with the next one."""
    contents: list[str] = []
    for message in messages:
        is_question = message["role"] == "user"
        contents += message["content"].split("\n\n") if is_question else [message["content"]]
    return contents


def digest(contents: list[str]) -> str:
    """A hash of a list of contents, to compare them by."""
    return hashlib.sha256("\0".join(contents).encode()).hexdigest()
