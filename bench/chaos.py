"""`make chaos`: break everything at random for minutes, then check every history to the character.

Three instances, one Redis, a model that fails now and then; sixteen clients in forty chats, who
leave in mid-answer and go on elsewhere, and send messages twice. Meanwhile instances are killed,
frozen and told to end, and Redis is stopped, frozen and killed. Nobody is told anything: clients
see what apps see, and act on it as the API says. Ends with a table, and fails when anything is lost.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, Reply

CLIENTS, CHATS, INSTANCES = 16, 40, 3
LEASE_SECONDS, LOG_SECONDS = 3, 8
WORDS = ["alpha ", "βήτα ", "😀 ", "漢字 ", "\n", "delta ", "👩‍👩‍👧 "]
ANSWER_LOST = (urllib3.exceptions.HTTPError, OSError, ValueError)


@dataclass
class Said:
    """One message of a client, and what the client was told of it."""

    chat_id: str
    content: str
    twice: bool
    outcome: str = "unknown"
    message: dict[str, Any] = field(default_factory=dict)


@dataclass
class Heard:
    """What a client has of a stream."""

    turn_id: str = ""
    text: str = ""


class World:
    """Everything that runs, and everything that was seen."""

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
    """Answers with words that name the question, and fails in every way now and then."""

    def __init__(self, world: World) -> None:
        super().__init__(answer=self._answer)
        self._world = world

    def _answer(self, body: dict[str, Any]) -> Answer:
        self.requests.clear()  # what is needed of them is kept below
        said = [message["content"] for message in body["messages"]]
        self._world.prompts.append((said[0], len(said) - 1, _digest(said[:-1])))
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


class Talker(threading.Thread):
    """One client: says one thing after the other, and does not rest until it knows how that ended."""

    def __init__(self, world: World, number: int, turns: int) -> None:
        super().__init__(daemon=True)
        self._world, self._number, self._turns = world, number, turns
        self._dice = random.Random(world.random.random())

    def run(self) -> None:
        for n in range(self._turns):
            if self._world.ending.is_set():
                return
            chat_id = f"chat-{self._dice.randrange(CHATS)}"
            said = Said(chat_id, f"c{self._number}-{n}", twice=self._dice.random() < 0.15)
            self._world.said.append(said)
            self._say(said)
            self._world.counts[f"turns {said.outcome}"] += 1

    def _say(self, said: Said) -> None:
        body = {"content": said.content, "stream": self._dice.random() < 0.7}
        kind = self._dice.random()
        if kind < 0.04:
            body["when_busy"] = "interrupt" if kind < 0.03 else "rollback"
        if said.twice:
            self._world.counts["messages sent twice"] += 1
            threading.Thread(target=self._send_blindly, args=(said, body), daemon=True).start()
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up and said.outcome == "unknown":
            try:
                self._attempt(said, body)
            except ANSWER_LOST:
                # The lost attempt may still be running: now the message is sent a second time.
                said.twice = True
                self._world.counts["answers lost on the way"] += 1
                time.sleep(0.05)

    def _send_blindly(self, said: Said, body: dict[str, Any]) -> None:
        try:
            self._post(said, body)
        except ANSWER_LOST:
            pass

    def _post(self, said: Said, body: dict[str, Any]) -> Reply:
        client = self._world.any_client()
        path = f"/{said.chat_id}/chat"
        return client.request("POST", path, body, timeout=12, Idempotency_Key=said.content)

    def _attempt(self, said: Said, body: dict[str, Any]) -> None:
        if body["stream"]:
            self._listen(said, body)
            return
        self._take(said, self._post(said, body))

    def _take(self, said: Said, reply: Reply) -> None:
        if reply.status == 200:
            said.outcome, said.message = reply.json["status"], reply.json
        elif reply.status in (502, 504) or reply.code == "upstream_unavailable":
            said.outcome = "failed"
        else:  # 409, 503, and 404 when it was taken back: try again
            self._world.counts[f"answers {reply.status}"] += 1
            time.sleep(0.1)

    def _listen(self, said: Said, body: dict[str, Any]) -> None:
        """Read a stream; leave it at random, and go on with it somewhere else."""
        path, heard = f"/{said.chat_id}/chat", Heard()
        stream = self._world.any_client().stream(path, body, Idempotency_Key=said.content)
        if stream.status != 200:
            self._take(said, Reply(stream.status, stream.headers, stream.response.read()))
            return
        while not self._hear(said, stream, heard) and heard.turn_id:
            stream = self._resume(said, heard)
            if stream.status == 400:  # we had heard more than was kept
                self._world.counts["streams that had heard more than was kept"] += 1
                stream.response.read()
                heard.text = ""
                stream = self._resume(said, heard)
            if stream.status == 404:
                said.outcome = "failed"
            if stream.status != 200:
                stream.response.read()
                return
            self._world.counts["streams resumed"] += 1

    def _hear(self, said: Said, stream: Any, heard: "Heard") -> bool:
        """Read on; true when the stream came to its end."""
        leave_after = self._dice.randrange(8) if self._dice.random() < 0.3 else 10**6
        try:
            for number, event in enumerate(stream.events):
                if event.name == "started":
                    heard.turn_id = event.data["turn_id"]
                elif event.name == "delta":
                    heard.text += event.data["text"]
                elif event.name != ":":
                    self._end(said, event, heard.text)
                    return True
                if number >= leave_after:
                    self._world.counts["streams left by the client"] += 1
                    stream.leave()
                    return False
        except ANSWER_LOST:
            pass
        self._world.counts["streams lost on the way"] += 1
        return False

    def _resume(self, said: Said, heard: "Heard") -> Any:
        path = f"/{said.chat_id}/turns/{heard.turn_id}/stream?after={len(heard.text)}"
        give_up = time.monotonic() + 60
        while True:
            try:
                stream = self._world.any_client().stream(path, method="GET")
                if stream.status != 503 or time.monotonic() > give_up:
                    return stream
                stream.response.read()
            except ANSWER_LOST:
                if time.monotonic() > give_up:
                    raise
            time.sleep(0.1)

    def _end(self, said: Said, event: Any, text: str) -> None:
        message = event.data.get("message") if event.name == "failed" else event.data
        if message is None:
            code = event.data["error"]["code"]
            said.outcome = "not stored in time" if code == "store_unavailable" else "failed"
            return
        said.outcome, said.message = message["status"], message
        if text == message["content"]:
            return
        # Only an instance that died, or was frozen, may have said more than it could write down.
        if event.name in ("interrupted", "cancelled") and text.startswith(message["content"]):
            self._world.counts["streams that had heard more than was kept"] += 1
        else:
            self._world.wrong.append(
                f"{said.content}: heard {text!r}, stored {message['content']!r}"
            )


class Breaker:
    """Breaks one thing every second or two, and mends it.

    Runs in the main thread: a Redis that is started by any other would end with that thread.
    """

    def __init__(self, world: World) -> None:
        self._world, self._dice = world, random.Random(world.random.random())
        self._ways = [
            self._kill,
            self._kill,
            self._terminate,
            self._freeze,
            self._freeze_redis,
            self._kill_redis,
        ]

    def break_something(self) -> None:
        time.sleep(self._dice.uniform(0.5, 2.5))
        self._dice.choice(self._ways)()

    def _kill(self) -> None:
        function = self._dice.choice(self._world.functions)
        function.kill()
        self._world.counts["instances killed (SIGKILL)"] += 1
        time.sleep(self._dice.uniform(0, 1))
        function.start()

    def _terminate(self) -> None:
        function = self._dice.choice(self._world.functions)
        os.kill(function.pid, signal.SIGTERM)
        self._world.counts["instances told to end (SIGTERM)"] += 1
        time.sleep(self._dice.uniform(0, 9))
        function.kill()
        function.start()

    def _freeze(self) -> None:
        function = self._dice.choice(self._world.functions)
        os.killpg(function.pid, signal.SIGSTOP)
        self._world.counts["instances frozen (SIGSTOP)"] += 1
        time.sleep(self._dice.uniform(0.5, LEASE_SECONDS * 2))
        os.killpg(function.pid, signal.SIGCONT)

    def _freeze_redis(self) -> None:
        os.kill(self._world.redis.pid, signal.SIGSTOP)
        self._world.counts["Redis frozen (SIGSTOP)"] += 1
        time.sleep(self._dice.uniform(0.2, 4))
        os.kill(self._world.redis.pid, signal.SIGCONT)

    def _kill_redis(self) -> None:
        self._world.redis.kill()
        self._world.counts["Redis killed (SIGKILL) and restarted"] += 1
        time.sleep(self._dice.uniform(0, 2))
        self._world.redis.start()


def check(world: World) -> None:
    """Compare what clients were told, and what the model was sent, with what is in the histories."""
    histories = {}
    for n in range(CHATS):
        path = f"/chat-{n}/chat?limit=1000"
        pages = [_whole_history(function.client, path) for function in world.functions]
        _expect(
            world, all(page == pages[0] for page in pages), f"chat-{n} differs between instances"
        )
        histories[f"chat-{n}"] = pages[0]
    for chat_id, history in histories.items():
        _check_history(world, chat_id, history)
    everything = [m["content"] for history in histories.values() for m in history]
    place = {content: at for at, content in enumerate(everything)}
    _check_said(world, histories)
    for first, count, digest in world.prompts:
        _check_prompt(world, everything, place, first, count, digest)
    _check_keys(world)
    world.counts["messages in the histories"] = len(everything)


def _whole_history(client: Client, path: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while path:
        reply = client.get(path)
        if reply.status != 200:
            raise RuntimeError(f"GET {path}: {reply.status} {reply.body!r}")
        messages = reply.json + messages
        path = reply.headers.get("Link", "").partition("<")[2].partition(">")[0]
    return messages


def _check_history(world: World, chat_id: str, history: list[dict[str, Any]]) -> None:
    roles = [m["role"] for m in history]
    _expect(
        world,
        roles == ["user", "assistant"] * (len(history) // 2),
        f"{chat_id}: roles do not alternate",
    )
    parents = [m["parent_id"] for m in history]
    ids = [m["id"] for m in history]
    _expect(world, parents == [None, *ids[:-1]][: len(ids)], f"{chat_id}: turns interleave")
    _expect(world, len(set(ids)) == len(ids), f"{chat_id}: an id stands twice")
    for question, answer in zip(history[::2], history[1::2], strict=True):
        own = answer["content"] == "" or answer["content"].startswith(
            f"re {question['content']}: "[: len(answer["content"])]
        )
        _expect(world, own, f"{chat_id}: {question['content']} has the answer of another")


def _check_said(world: World, histories: dict[str, list[dict[str, Any]]]) -> None:
    for said in world.said:
        history = histories[said.chat_id]
        places = [
            at
            for at, m in enumerate(history)
            if m["role"] == "user" and m["content"] == said.content
        ]
        if said.message:
            stored = history[places[0] + 1] if len(places) == 1 else None
            _expect(
                world,
                stored == said.message,
                f"{said.content} in {said.chat_id}: acknowledged, stored {len(places)} times",
            )
        elif said.outcome == "failed" and not said.twice:
            _expect(world, not places, f"{said.content}: said to have failed, but is stored")
        else:
            _expect(world, len(places) <= 1, f"{said.content}: stored {len(places)} times")


def _check_prompt(
    world: World, everything: list[str], place: dict[str, int], first: str, count: int, digest: str
) -> None:
    """All but the new message of a prompt stand in a history, in a row."""
    at = place.get(first)
    if count == 0:
        return
    if at is None:
        world.wrong.append(f"a prompt begins with {first!r}, which is in no history")
    else:
        same = _digest(everything[at : at + count]) == digest
        _expect(world, same, f"{count} messages from {first!r} on are not the history as it stood")


def _digest(contents: list[str]) -> str:
    return hashlib.sha256("\0".join(contents).encode()).hexdigest()


def _check_keys(world: World) -> None:
    client = world.redis.client()
    deadline = time.monotonic() + LOG_SECONDS + 5
    while True:
        kinds = [key.decode().split(":")[2] for key in client.scan_iter(count=1000)]
        left = [kind for kind in kinds if kind not in ("chats", "chat", "history")]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    _expect(world, not left, f"keys are left over: {Counter(left)}")
    world.counts["keys left over besides chats"] = len(left)
    for key in client.scan_iter("*:chat:*", count=1000):
        _expect(world, not client.hget(key, "turn"), f"{key!r} still has a running turn")


def _expect(world: World, true: bool, otherwise: str) -> None:
    if not true:
        world.wrong.append(otherwise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=15, help="at most")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {options.seed}, logs in {folder}", flush=True)
    world = World(folder, options.seed)
    began = time.monotonic()
    latest = began + options.minutes * 60
    try:
        talkers = [Talker(world, n, -(-options.turns // CLIENTS)) for n in range(CLIENTS)]
        breaker = Breaker(world)
        for talker in talkers:
            talker.start()
        while any(t.is_alive() for t in talkers) and time.monotonic() < latest:
            breaker.break_something()
        world.ending.set()
        for talker in talkers:
            talker.join(150)
        world.counts["minutes"] = round((time.monotonic() - began) / 60, 1)  # type: ignore[assignment]
        time.sleep(LEASE_SECONDS + 1)
        check(world)
    finally:
        world.stop()
    return report(world)


def report(world: World) -> int:
    """Print the table; the number of things that went wrong."""
    print("\n| what | how often |\n|---|---|")
    print(f"| messages said by clients | {len(world.said)} |")
    for name, count in sorted(world.counts.items()):
        print(f"| {name} | {count} |")
    print(f"| **lost, doubled, mixed or wrong** | **{len(world.wrong)}** |")
    for problem in world.wrong[:20]:
        print(f"WRONG: {problem}", file=sys.stderr)
    return min(len(world.wrong), 99)


if __name__ == "__main__":
    sys.exit(main())
