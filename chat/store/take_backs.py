"""Turns that must leave nothing, dropped until Redis has answered.

A client has got a 503, and nobody knows whether its turn was begun, or stored: the reply was lost. So
the turn is dropped, again and again, until that is certain. The command names the turn by its nonce,
and changes nothing where there is no such turn.
"""

import threading
import time

import msgspec

from chat.core.errors import StoreUnavailable
from chat.store.redis_clock import PATIENCE_MS
from chat.store.store import Command, Store

_NOTHING = StoreUnavailable("The chat store did not answer; nothing of this turn is stored.")
#: The error in the log of a turn that was taken back, for whoever follows it.
TAKEN_BACK = msgspec.json.encode(_NOTHING.body()["error"])
_RETRY_SECONDS = 0.5
_GIVE_UP_SECONDS = 900.0  # by then somebody has settled the turn long ago
_MAX_TAKE_BACKS = 1000


class TakeBack(msgspec.Struct):
    """A command that is due, and how long: what it takes back may be on its way until `certain_at`."""

    command: Command
    due_at: float
    certain_at: float
    give_up_at: float
    answered: threading.Event


class TakeBacks:
    """Those of one process. Added to by any thread, sent by the one that writes turn logs."""

    def __init__(self) -> None:
        self._waiting: list[TakeBack] = []
        self._lock = threading.Lock()

    def add(self, command: Command) -> threading.Event:
        """Returns an event that is set when Redis has answered for the first time."""
        now = time.monotonic()
        certain_at, give_up_at = now + PATIENCE_MS / 1000, now + _GIVE_UP_SECONDS
        new = TakeBack(command, now, certain_at, give_up_at, threading.Event())
        with self._lock:
            self._waiting = [*self._waiting[-_MAX_TAKE_BACKS:], new]
        return new.answered

    def due_at(self) -> float:
        """When the next one is to be sent (monotonic seconds)."""
        return min((each.due_at for each in self._waiting), default=float("inf"))

    def send(self, store: Store) -> None:
        """Send those that are due."""
        now = time.monotonic()
        due = [each for each in self._waiting if each.due_at <= now]
        for each in due:
            each.due_at = now + _RETRY_SECONDS
        try:
            store.write([each.command for each in due])
        except StoreUnavailable:
            done = {id(each) for each in due if now >= each.give_up_at}
        else:
            for each in due:
                each.answered.set()
            done = {id(each) for each in due if now >= each.certain_at}
        with self._lock:
            self._waiting = [each for each in self._waiting if id(each) not in done]
