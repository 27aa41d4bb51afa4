"""The log of a streamed turn: a Redis Stream whose entry ids are places in the answer.

    0-1                      b    the turn has begun
    <offset>-0               x    text of the answer up to that many code points
    9007199254740990-0       s    somebody wants the turn to end, and why: cancelled, rollback, interrupted
    9007199254740991-0       e    its ending;  n  length of the answer,  x  the last of its text,  f  error

Redis itself refuses an entry whose id is not above the newest. So after a stop, or an ending, a
producer's text is refused, and that refusal is how it learns of it: no checking costs a command.
Exactly one ending wins. Writing an entry twice changes nothing, and text that is written again as
part of a bigger entry does no harm, because readers go by offsets and not by entries.

`TurnLogWriter` is one thread per process that writes for all its turns, so that no turn waits for
Redis between the model and its client. When Redis stumbles, whatever is not acknowledged waits,
and goes out as one entry.
"""

import logging
import threading
import time
from typing import Any, Final, Literal

import msgspec

from chat.core.errors import StoreUnavailable
from chat.core.events import StopReason, read_stop_reason
from chat.core.messages import ChatRef, TurnRef
from chat.store.keyspace import chat_key, log_key
from chat.store.store import Command, Rows, Store, StreamRead, was_refused, was_unknown
from chat.store.vault import Vault

_STOP_ID = "9007199254740990-0"
_END_OFFSET = 9007199254740991
_AFTER_EVERYTHING_AT = 99  # second half of an id: above all entries at one offset
_FIRST_PAUSE_SECONDS = 0.1
_PAUSE_GROWTH = 1.5
_MAX_PAUSE_SECONDS = 1.0
_MAX_WAITING_CHARACTERS = 4096
_AFTER_FAILURE_SECONDS = 0.5
_MAX_SLEEP_SECONDS = 5.0
# What becomes due meanwhile goes out in one batch: to look through all turns for each would cost
# more than the writing, when there are hundreds.
_GATHER_SECONDS = 0.05
LOST: Final = "lost"
log = logging.getLogger("chatkeep")


class LogEntry(msgspec.Struct, frozen=True):
    """One entry of a log: text that ends at `offset`, and, in the last one, the ending."""

    offset: int
    text: str
    ending: str = ""
    error: bytes = b""


class TurnLog:
    """Read logs, and end turns through them."""

    def __init__(self, store: Store, blocking: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._blocking = blocking

    def read(self, chat: ChatRef, nonce: str, offset: int, wait_seconds: float) -> list[LogEntry]:
        """Entries with text after `offset`; waits for the first, but not longer than told."""
        key = log_key(chat, nonce)
        after, wait_ms = _id_after(offset), int(wait_seconds * 1000)
        while True:
            rows = self._blocking.read_stream(key, after, wait_ms)
            entries = self.entries(chat, rows)
            if entries or not rows:
                return entries
            after = rows[-1][0].decode()  # nothing but a request to stop: wait for what follows

    def tail(self, chat: ChatRef, nonce: str) -> "Tail":
        """Non-blocking `read`. Connects to nothing yet."""
        return Tail(self, chat, self._blocking.open_read(log_key(chat, nonce)))

    def stop(self, chat: ChatRef, nonce: str, reason: StopReason) -> tuple[str, StopReason]:
        """Have no more text accepted; returns all there is, and the reason that came first."""
        key = log_key(chat, nonce)
        ask: Command = ("XADD", key, "NOMKSTREAM", _STOP_ID, "s", reason)
        _, rows = self._store.send([ask, ("XRANGE", key, "-", "+")])
        if was_refused(rows):
            raise StoreUnavailable("The chat store refused to read.", retry_after=1)
        reasons = [read_stop_reason(fields[b"s"]) for _, fields in rows if b"s" in fields]
        return glue(self.entries(chat, rows)), (reasons or [reason])[0]

    def entries(self, chat: ChatRef, rows: Rows) -> list[LogEntry]:
        """What rows of a log say, but for its beginning and requests to stop."""
        return [entry for row in rows if (entry := self._read_entry(chat, *row))]

    def _read_entry(
        self, chat: ChatRef, entry_id: bytes, fields: dict[bytes, bytes]
    ) -> LogEntry | None:
        text = self._vault.open_text(chat, fields.get(b"x", b""))
        if b"e" in fields:
            error = self._vault.open(chat, fields.get(b"f", b""))
            return LogEntry(int(fields[b"n"]), text, fields[b"e"].decode(), error)
        return LogEntry(int(entry_id.partition(b"-")[0]), text) if text else None


class Tail:
    """What comes next in one log: `ask`, `receive` when `fileno` is readable, `read` once that finds a reply.

    From `ask` to `read` it has a connection of its own, which `close` gives up.
    """

    def __init__(self, logs: TurnLog, chat: ChatRef, read: StreamRead) -> None:
        self._logs = logs
        self._chat = chat
        self._read = read
        self._stop_id = ""
        self.fileno = read.fileno
        self.receive = read.receive
        self.close = read.close

    @property
    def asked(self) -> bool:
        """Whether a reply to `ask` is to be read."""
        return self._read.sent

    @property
    def has_reply(self) -> bool:
        return self._read.has_reply

    def ask(self, offset: int, wait_seconds: float) -> None:
        """Have Redis wait so long for text after `offset`; raises StoreUnavailable."""
        self._read.send(self._stop_id or _id_after(offset), int(wait_seconds * 1000))

    def read(self) -> list[LogEntry]:
        """The entries that came, if any; raises StoreUnavailable, also when no reply has come."""
        rows = self._read.read()
        entries = self._logs.entries(self._chat, rows)
        if rows and not entries:  # nothing but a request to stop: wait for what follows
            self._stop_id = rows[-1][0].decode()
        return entries


def _id_after(offset: int) -> str:
    return f"{offset}-{_AFTER_EVERYTHING_AT}"


def glue(entries: list[LogEntry]) -> str:
    """The text of entries in their order; they may overlap."""
    text = ""
    for entry in entries:
        text += text_after(entry, len(text))
    return text


def text_after(entry: LogEntry, offset: int) -> str:
    """What an entry adds for a reader who has `offset` code points."""
    new = entry.offset - offset
    return entry.text[-new:] if 0 < new <= len(entry.text) else entry.text if new > 0 else ""


class LogBuffer:
    """What one running turn has for Redis: its text, and that it is still alive.

    Filled by the thread that drives the turn, emptied by the writer. `verdict` is what the writer
    learned: a reason to stop, or LOST when the turn is not the chat's any more. `driven_at` is when
    that thread was last seen at work: a turn that is stuck, in a client that does not read for
    instance, is not kept alive.
    """

    def __init__(self, chat: ChatRef, ref: TurnRef, lease_ms: int, began_ms: int) -> None:
        self.verdict: StopReason | Literal["lost"] | None = None
        self.log_key = log_key(chat, ref.nonce)
        self._chat = chat
        self.nonce = ref.nonce
        self._lease_ms = lease_ms
        self._waiting: list[str] = []
        self._characters = 0
        self._offset = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self.driven_at = now = time.monotonic()
        self._redis_ahead_ms = began_ms - int(now * 1000)
        self._flush_at = 0.0  # the first text goes out at once
        self._beat_at = now + lease_ms / 2000
        self._lock = threading.Lock()

    def add(self, text: str) -> bool:
        """Take text; true when the writer has to think again about when to call."""
        with self._lock:
            self._waiting.append(text)
            self._characters += len(text)
            return len(self._waiting) == 1 or self._characters >= _MAX_WAITING_CHARACTERS

    def rest(self) -> str:
        """All text that is not known to be in Redis."""
        with self._lock:
            return "".join(self._waiting)

    def due_at(self) -> float:
        """When the writer has to call next (monotonic seconds)."""
        with self._lock:
            return self._due_at()

    def _due_at(self) -> float:
        if self.verdict:
            return float("inf")
        if not self._waiting:
            return self._beat_at
        at = 0.0 if self._characters >= _MAX_WAITING_CHARACTERS else self._flush_at
        return min(at, self._beat_at)

    def collect(self, store: Store, vault: Vault, now: float) -> "tuple[Command, int] | None":
        """The command that is due, and how many pieces of text it carries (0: it is a beat)."""
        with self._lock:
            if self._beat_at <= now and now - self.driven_at > self._lease_ms / 1000:
                self.verdict = LOST
                return None
            if self._beat_at <= now:
                until = int(now * 1000) + self._redis_ahead_ms + self._lease_ms
                return store.command("beat", [chat_key(self._chat)], self.nonce, until), 0
            if not self._waiting:
                return None
            end, text = self._offset + self._characters, "".join(self._waiting)
            said = vault.seal_text(self._chat, text)
            command = ("XADD", self.log_key, "NOMKSTREAM", f"{end}-0", "x", said)
            return command, len(self._waiting)

    def written(self, pieces: int, reply: Any, now: float) -> None:
        """Redis took what was collected."""
        with self._lock:
            if pieces == 0:
                self._beat_at = now + self._lease_ms / 2000
            else:
                self._forget(pieces, now)
            # A beat for a turn that is over says 0; a log that was deleted with its chat says nil.
            if reply in (0, None):
                self.verdict = LOST

    def refused(self, pieces: int, entry_id: bytes, newest: list[Any], now: float) -> None:
        """Redis has an entry that is not older than ours; `newest` is that one, or empty."""
        with self._lock:
            newest_id, fields = newest[0] if newest else (b"", {})
            if b"s" in fields:
                self.verdict = read_stop_reason(fields[b"s"])
            elif b"e" in fields or not newest:
                self.verdict = LOST
            elif newest_id == entry_id:  # it is ours: the reply to it had been lost
                self._forget(pieces, now)
            else:
                self._flush_at = now + _AFTER_FAILURE_SECONDS

    def _forget(self, pieces: int, now: float) -> None:
        length = sum(map(len, self._waiting[:pieces]))
        self._offset += length
        self._characters -= length
        del self._waiting[:pieces]
        self._flush_at = now + self._pause
        self._pause = min(self._pause * _PAUSE_GROWTH, _MAX_PAUSE_SECONDS)

    def failed(self, now: float) -> None:
        """Redis could not be reached."""
        with self._lock:
            self._flush_at = now + _AFTER_FAILURE_SECONDS
            self._beat_at = max(self._beat_at, self._flush_at)


class TurnLogWriter:
    """Writes for all turns of this process, in batches, from one thread made at first use."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._boxes: list[LogBuffer] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def open(self, box: LogBuffer) -> None:
        with self._changed:
            self._boxes.append(box)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_for_ever, daemon=True)
                self._thread.start()
            elif box.due_at() < self._wakes_at:
                self._changed.notify()

    def close(self, box: LogBuffer) -> None:
        with self._changed:
            self._boxes.remove(box)

    def tell(self, nonce: str, reason: StopReason) -> None:
        """If a turn of this process is asked to stop, it need not wait for Redis to refuse its text."""
        with self._changed:
            for box in self._boxes:
                if box.nonce == nonce:
                    box.verdict = box.verdict or reason

    def add(self, box: LogBuffer, text: str) -> None:
        """Text of a turn; never waits for Redis."""
        if box.add(text):
            with self._changed:
                if box.due_at() < self._wakes_at:
                    self._changed.notify()

    def _write_for_ever(self) -> None:
        while True:
            try:
                self._write_what_is_due()
            except Exception:  # without this thread, no turn of this process keeps its lease
                log.exception("the log writer failed")
                time.sleep(_AFTER_FAILURE_SECONDS)

    def _write_what_is_due(self) -> None:
        with self._changed:
            now = time.monotonic()
            due, soonest = self._find_due(now)
            if not due:
                self._wakes_at = soonest
                self._changed.wait(soonest - now)
                return
        self._write(due, now)
        time.sleep(_GATHER_SECONDS)

    def _find_due(self, now: float) -> tuple[list[LogBuffer], float]:
        """Whose turn it is, and when the next one's will be."""
        due: list[LogBuffer] = []
        # Never for long: then a turn that begins while none runs need not wake us.
        soonest = now + _MAX_SLEEP_SECONDS
        for box in self._boxes:
            at = box.due_at()
            if at <= now:
                due.append(box)
            elif at < soonest:
                soonest = at
        return due, soonest

    def _write(self, due: list[LogBuffer], now: float) -> None:
        batch = [
            (box, *found) for box in due if (found := box.collect(self._store, self._vault, now))
        ]
        try:
            replies = self._store.send([command for _, command, _ in batch])
            for (box, command, pieces), reply in zip(batch, replies, strict=True):
                self._settle(box, command, pieces, reply)
        except StoreUnavailable:
            for box, _, _ in batch:
                box.failed(time.monotonic())

    def _settle(self, box: LogBuffer, command: Command, pieces: int, reply: Any) -> None:
        now = time.monotonic()
        if was_unknown(reply):
            reply = self._store.run("beat", [str(command[3])], *command[4:])
        if not was_refused(reply):
            box.written(pieces, reply, now)
            return
        (newest,) = self._store.send([("XREVRANGE", box.log_key, "+", "-", "COUNT", 1)])
        if pieces and not was_refused(newest):
            box.refused(pieces, str(command[3]).encode(), newest, now)
        else:
            box.failed(now)
