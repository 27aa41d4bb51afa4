"""The part of `make chaos` that deletes: chats that end while messages run, wait and are repeated.

Each forgetter has a chat of its own. It says a few messages, some of them at once, deletes the chat
in the middle of one, and sends a message again that had been answered before: it must neither run
again nor come back.
"""

import random
import threading
import time
from typing import Any

from bench.world import ANSWER_LOST, World
from tests.harness import Reply

FORGETTERS = 4
_TOLD = (404, 409, 410)  # what a repeat may be answered after its chat was deleted
_SURE = (200, 404, 409, 502)


class Forgetter(threading.Thread):
    """One client that deletes its chat again and again; `turns` messages in all."""

    def __init__(self, world: World, number: int, turns: int) -> None:
        super().__init__(daemon=True)
        self._world, self._turns = world, turns
        self._chat_id = f"gone-{number}"
        self._dice = random.Random(world.random.random())
        self._said = 0

    def run(self) -> None:
        while self._said < self._turns and not self._world.ending.is_set():
            self._live_and_be_forgotten()
        self._delete()

    def _live_and_be_forgotten(self) -> None:
        answered = [
            name for name in map(self._say, self._names(self._dice.randrange(1, 4))) if name
        ]
        under_way = [
            threading.Thread(target=self._post, args=(name, {"stream": self._dice.random() < 0.5}))
            for name in self._names(self._dice.randrange(1, 4))
        ]
        for thread in under_way:
            thread.start()
        time.sleep(self._dice.uniform(0, 0.1))
        self._delete()
        for thread in under_way:
            thread.join(60)
        for name in answered:
            self._repeat(name)
        self._check_history(answered)
        self._delete()
        self._check_history([m["content"] for m in self._history() or []])

    def _names(self, count: int) -> list[str]:
        self._said += count
        return [f"{self._chat_id} {self._said - n}" for n in range(count)]

    def _say(self, name: str) -> str | None:
        """Its name, once it is answered for good."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            reply = self._post(name, {})
            if reply and reply.status in _SURE:
                return name if reply.status == 200 else None
            time.sleep(0.1)
        return None

    def _post(self, name: str, fields: dict[str, Any]) -> Reply | None:
        path, body = f"/{self._chat_id}/chat", {"content": name, **fields}
        if self._dice.random() < 0.2:
            body["when_busy"] = self._dice.choice(["interrupt", "rollback"])
        try:
            client = self._world.any_client()
            return client.request("POST", path, body, timeout=12, Idempotency_Key=name)
        except ANSWER_LOST:
            return None

    def _repeat(self, name: str) -> None:
        reply = self._post(name, {})
        if reply is None or reply.status == 503:
            return
        self._world.counts["repeats after a deletion"] += 1
        if reply.status not in _TOLD:
            self._world.wrong.append(f"{name}: deleted, and its repeat is {reply.status}")

    def _delete(self) -> None:
        """Until it is sure."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            try:
                reply = self._world.any_client().request("DELETE", f"/{self._chat_id}", timeout=12)
            except ANSWER_LOST:
                continue
            if reply.status == 204:
                self._world.counts["chats deleted"] += 1
                return
            time.sleep(0.1)
        self._world.wrong.append(f"{self._chat_id}: cannot be deleted")

    def _history(self) -> list[dict[str, Any]] | None:
        try:
            reply = self._world.any_client().get(f"/{self._chat_id}/chat")
        except ANSWER_LOST:
            return None
        return list(reply.json) if reply.status == 200 else None

    def _check_history(self, gone: list[str]) -> None:
        contents = [m["content"] for m in self._history() or []]
        back = set(gone) & set(contents)
        if back:
            self._world.wrong.append(f"{self._chat_id}: {back} came back after a deletion")
        if len(set(contents[::2])) != len(contents[::2]):
            self._world.wrong.append(f"{self._chat_id}: {contents} has something twice")
