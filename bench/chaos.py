"""`make chaos`: break everything at random for minutes, then check every history to the character.

Three instances, one Redis and a model that fails now and then. Sixteen clients in forty chats leave
in the middle of an answer, resume it on another instance, and send messages twice; others delete
their chats in the middle of a turn. Meanwhile instances are killed, frozen and terminated, and Redis is frozen and killed. The clients know only
what an app knows, and react as the API says. Ends with a table, and fails when anything is lost.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.checker import check
from bench.forgetting import FORGETTERS, Forgetter
from bench.world import ANSWER_LOST, CHATS, CLIENTS, LEASE_SECONDS, Heard, Said, World
from tests.harness import Reply

# Nothing is stored, and the same message is not to be sent again: it was rolled back.
_FINAL = ("upstream_unavailable", "idempotency_conflict")


class Talker(threading.Thread):
    """One client: sends one message after the other, each until its outcome is known."""

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
                # The first attempt may still be running: this one must not make a second turn.
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
        elif reply.status in (502, 504) or reply.code in _FINAL:
            said.outcome = "failed"
        else:  # 409, 503, or 404 after a rollback: try again
            self._world.counts[f"answers {reply.status}"] += 1
            time.sleep(0.1)

    def _listen(self, said: Said, body: dict[str, Any]) -> None:
        """Read a stream; drop it at random, and resume it on another instance."""
        path, heard = f"/{said.chat_id}/chat", Heard()
        stream = self._world.any_client().stream(path, body, Idempotency_Key=said.content)
        if stream.status != 200:
            self._take(said, Reply(stream.status, stream.headers, stream.response.read()))
            return
        while not self._hear(said, stream, heard) and heard.turn_id:
            stream = self._resume(said, heard)
            if stream.status == 400:  # this client has received more than was stored
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
        """Read on; whether the stream came to its end."""
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
        # Only an instance that was killed or frozen may have sent more than it could store.
        if event.name in ("interrupted", "cancelled") and text.startswith(message["content"]):
            self._world.counts["streams that had heard more than was kept"] += 1
        else:
            self._world.wrong.append(
                f"{said.content}: heard {text!r}, stored {message['content']!r}"
            )


class Breaker:
    """Breaks one thing every second or two, and repairs it.

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
            self._freeze_redis_past_the_time_out,
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
        self._freeze_redis_for(self._dice.uniform(0.2, 4))

    def _freeze_redis_past_the_time_out(self) -> None:
        """Clients have been told 503 by then, and the commands they sent are still to be run."""
        self._freeze_redis_for(1.75)

    def _freeze_redis_for(self, seconds: float) -> None:
        os.kill(self._world.redis.pid, signal.SIGSTOP)
        self._world.counts["Redis frozen (SIGSTOP)"] += 1
        time.sleep(seconds)
        os.kill(self._world.redis.pid, signal.SIGCONT)

    def _kill_redis(self) -> None:
        self._world.redis.kill()
        self._world.counts["Redis killed (SIGKILL) and restarted"] += 1
        time.sleep(self._dice.uniform(0, 2))
        self._world.redis.start()


def main() -> int:
    """Run the chaos, print the table; the number of things that went wrong."""
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
        forgetters = [Forgetter(world, n, options.turns // 20) for n in range(FORGETTERS)]
        breaker = Breaker(world)
        for client in (*talkers, *forgetters):
            client.start()
        while any(t.is_alive() for t in (*talkers, *forgetters)) and time.monotonic() < latest:
            breaker.break_something()
        world.ending.set()
        for client in (*talkers, *forgetters):
            client.join(150)
        world.counts["seconds"] = round(time.monotonic() - began)
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
