"""Writing the logs of running turns: one thread per process, so that no turn waits for Redis.

A turn puts its text into a LogBuffer and goes on; the thread sends what is due, for all turns in
one batch. Text that Redis has not acknowledged stays in the buffer and goes out again, as one entry
with what came since. The first text goes out at once, then at growing intervals.
"""

import logging
import threading
import time
from typing import Any, Final, Literal

from chat.core.errors import StoreUnavailable
from chat.core.events import StopReason, read_stop_reason
from chat.core.messages import ChatRef, TurnRef
from chat.store.failures import was_refused
from chat.store.keyspace import chat_key, history_key, log_key, running_key
from chat.store.store import Command, Store
from chat.store.take_backs import TakeBacks
from chat.store.vault import Vault

_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_GROWTH = 1.5
_MAX_PAUSE_SECONDS = 1.0
_HIGH_WATER_CHARACTERS = 4096  # so much text does not wait for the pause to pass
_RETRY_SECONDS = 0.5
_MAX_SLEEP_SECONDS = 5.0
# What becomes due in this time goes out in one batch: with hundreds of turns, looking through all
# of them for each one that is due would cost more than the writing.
_GATHER_SECONDS = 0.05
_ANSWER_SECONDS = 0.3
LOST: Final = "lost"
log = logging.getLogger("chatkeep")


class LogBuffer:
    """What one running turn has to tell Redis: its text, and that it is alive.

    Filled by the thread that drives the turn, emptied by the writer. `verdict` is what the writer
    has learned from Redis: a reason to stop, or LOST when the turn no longer holds the lease.
    `driven_at` is when the driving thread was last at work: the lease of a turn that is stuck, for
    instance because its client does not read, is not extended.
    """

    def __init__(
        self, chat: ChatRef, ref: TurnRef, *, lease_ms: int, keep_ms: int, began_ms: int
    ) -> None:
        self.verdict: StopReason | Literal["lost"] | None = None
        self.nonce = ref.nonce
        self.log_key = log_key(chat, ref.nonce)
        self.driven_at = now = time.monotonic()
        self._chat = chat
        self._lease_ms = lease_ms
        self._keep_ms = keep_ms
        self._waiting: list[str] = []
        self._characters = 0
        self._offset = 0  # code points of the answer that Redis has acknowledged
        self._pause = _FIRST_PAUSE_SECONDS
        self._redis_ahead_ms = began_ms - int(now * 1000)
        self._flush_at = 0.0
        self._beat_at = now + lease_ms / 2000  # after half a lease
        self._lock = threading.Lock()

    def add(self, text: str) -> bool:
        """Take text; true when it may be due earlier than the writer expects."""
        with self._lock:
            self._waiting.append(text)
            self._characters += len(text)
            return len(self._waiting) == 1 or self._characters >= _HIGH_WATER_CHARACTERS

    def rest(self) -> str:
        """The text that Redis has not acknowledged."""
        with self._lock:
            return "".join(self._waiting)

    def due_at(self) -> float:
        """When the next command is due (monotonic seconds)."""
        with self._lock:
            if self.verdict:
                return float("inf")
            if not self._waiting:
                return self._beat_at
            is_full = self._characters >= _HIGH_WATER_CHARACTERS
            return min(0.0 if is_full else self._flush_at, self._beat_at)

    def collect(self, store: Store, vault: Vault, now: float) -> tuple[Command, int] | None:
        """The command that is due, and how many pieces of text it carries (0: a heartbeat)."""
        with self._lock:
            if self._beat_at <= now:
                if now - self.driven_at > self._lease_ms / 1000:
                    self.verdict = LOST
                    return None
                return self._beat(store, vault, now), 0
            if not self._waiting:
                return None
            text = vault.seal_text(self._chat, "".join(self._waiting))
            # The id is the offset at which the text ends. NOMKSTREAM: the log of a chat that was
            # deleted must not come back.
            entry_id = f"{self._offset + self._characters}-0"
            command = ("XADD", self.log_key, "NOMKSTREAM", entry_id, "x", text)
            return command, len(self._waiting)

    def _beat(self, store: Store, vault: Vault, now: float) -> Command:
        keys = {
            "chat": chat_key(self._chat),
            "history": history_key(self._chat),
            "once": vault.once_key(self._chat),
            "running": running_key(self._chat.owner),
        }
        return store.command(
            "beat",
            keys,
            nonce=self.nonce,
            chat_id=self._chat.id,
            until_ms=int(now * 1000) + self._redis_ahead_ms + self._lease_ms,
            keep_ms=self._keep_ms,
        )

    def written(self, pieces: int, reply: Any, now: float) -> None:
        """Redis has executed a command that carried so many pieces."""
        with self._lock:
            if pieces == 0:
                self._beat_at = now + self._lease_ms / 2000
            else:
                self._acknowledge(pieces, now)
            # 0: the heartbeat of a turn that is over; None: a log that was deleted with its chat.
            if reply in (0, None):
                self.verdict = LOST

    def refused(self, pieces: int, entry_id: bytes, newest: list[Any], now: float) -> None:
        """Redis has an entry that is as high as ours; `newest` is that entry, or empty."""
        with self._lock:
            newest_id, fields = newest[0] if newest else (b"", {})
            if b"s" in fields:
                self.verdict = read_stop_reason(fields[b"s"])
            elif b"e" in fields or not newest:
                self.verdict = LOST
            elif newest_id == entry_id:  # our own: the reply to it was lost
                self._acknowledge(pieces, now)
            else:
                self._flush_at = now + _RETRY_SECONDS

    def failed(self, now: float) -> None:
        """Redis could not be reached."""
        with self._lock:
            self._flush_at = now + _RETRY_SECONDS
            self._beat_at = max(self._beat_at, self._flush_at)

    def _acknowledge(self, pieces: int, now: float) -> None:
        length = sum(map(len, self._waiting[:pieces]))
        self._offset += length
        self._characters -= length
        del self._waiting[:pieces]
        self._flush_at = now + self._pause
        self._pause = min(self._pause * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)


class TurnLogWriter:
    """Writes for all turns of this process, from one thread that starts with the first turn."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._buffers: list[LogBuffer] = []
        self._take_backs = TakeBacks()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def attach(self, buffer: LogBuffer) -> None:
        """Write for a turn, from now on."""
        with self._changed:
            self._buffers.append(buffer)
            self._wake(buffer.due_at())

    def take_back(self, command: Command) -> None:
        """Send this until Redis has answered; gives it a moment for that.

        So that, where Redis is there, a client that got a 503 finds its chat free at once.
        """
        with self._changed:
            answered = self._take_backs.add(command)
            self._wake(0.0)
        answered.wait(_ANSWER_SECONDS)

    def _wake(self, due_at: float) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        elif due_at < self._wakes_at:
            self._changed.notify()

    def detach(self, buffer: LogBuffer) -> None:
        """Write no more for a turn; it has ended."""
        with self._changed:
            self._buffers.remove(buffer)

    def stop(self, nonce: str, reason: StopReason) -> None:
        """Stop a turn of this process, if it is one, at once: before Redis refuses its text."""
        with self._changed:
            for buffer in self._buffers:
                if buffer.nonce == nonce:
                    buffer.verdict = buffer.verdict or reason

    def add(self, buffer: LogBuffer, text: str) -> None:
        """Write text of a turn to its log, soon; never waits for Redis."""
        if buffer.add(text):
            with self._changed:
                if buffer.due_at() < self._wakes_at:
                    self._changed.notify()

    def _run(self) -> None:
        while True:
            try:
                self._write_what_is_due()
            except Exception:  # without this thread, no turn of this process keeps its lease
                log.exception("the writer of turn logs failed")
                time.sleep(_RETRY_SECONDS)

    def _write_what_is_due(self) -> None:
        with self._changed:
            now = time.monotonic()
            due, soonest = self._find_due(now)
            take_back_at = self._take_backs.due_at()
            if not due and take_back_at > now:
                self._wakes_at = min(soonest, take_back_at)
                self._changed.wait(self._wakes_at - now)
                return
        if due:
            self._write(due, now)
        if take_back_at <= now:
            self._take_backs.send(self._store)
        time.sleep(_GATHER_SECONDS)

    def _find_due(self, now: float) -> tuple[list[LogBuffer], float]:
        """The buffers that are due, and when the next one will be."""
        due: list[LogBuffer] = []
        # A short sleep at most: so a turn that begins while none is running need not wake us.
        soonest = now + _MAX_SLEEP_SECONDS
        for buffer in self._buffers:
            at = buffer.due_at()
            if at <= now:
                due.append(buffer)
            elif at < soonest:
                soonest = at
        return due, soonest

    def _write(self, due: list[LogBuffer], now: float) -> None:
        batch = [
            (buffer, *found)
            for buffer in due
            if (found := buffer.collect(self._store, self._vault, now))
        ]
        try:
            replies = self._store.send([command for _, command, _ in batch])
            for (buffer, command, pieces), reply in zip(batch, replies, strict=True):
                self._settle(buffer, command, pieces, reply)
        except StoreUnavailable:
            for buffer, _, _ in batch:
                buffer.failed(time.monotonic())

    def _settle(self, buffer: LogBuffer, command: Command, pieces: int, reply: Any) -> None:
        now = time.monotonic()
        if not was_refused(reply):
            buffer.written(pieces, reply, now)
            return
        (newest,) = self._store.send([("XREVRANGE", buffer.log_key, "+", "-", "COUNT", 1)])
        if pieces and not was_refused(newest):
            buffer.refused(pieces, str(command[3]).encode(), newest, now)
        else:
            buffer.failed(now)
