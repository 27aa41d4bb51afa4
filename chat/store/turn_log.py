"""The log of a streamed turn: a Redis Stream whose entry ids are offsets in the answer.

    0-1                   b   the turn has begun
    <offset>-0            x   text of the answer up to that many code points
    9007199254740990-0    s   a request to stop, and its reason: cancelled, rollback, interrupted
    9007199254740991-0    e   the ending;  n  length of the answer,  x  its last text,  f  error

Redis refuses an entry whose id is not above the newest one. Everything follows from that:

- One ending wins: every ending has the same id, the highest that any client reads exactly (2^53-1).
- A stop fences the producer: its id is above any text, so further text is refused, and by that
  refusal the producer learns of it. No command is spent on checking.
- A write may be repeated: the same entry is refused the second time, and text that is written again
  as part of a bigger entry does no harm, because readers go by offsets and not by entries.
"""

import msgspec

from chat.core.errors import StoreUnavailable
from chat.core.events import StopReason, read_stop_reason
from chat.core.messages import ChatRef
from chat.store.failures import was_refused
from chat.store.keyspace import log_key
from chat.store.store import Command, Store
from chat.store.stream_read import Rows, StreamRead
from chat.store.vault import Vault

_STOP_ID = "9007199254740990-0"
# Second half of an id: above all entries at one offset, so that a read begins after them.
_MAX_SEQUENCE = 99


class LogEntry(msgspec.Struct, frozen=True):
    """An entry of a log: text that ends at `offset`, and, in the last one, the ending."""

    offset: int
    text: str
    ending: str = ""
    error: bytes = b""


class TurnLog:
    """Reads logs, and closes them to their producers."""

    def __init__(self, store: Store, blocking: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._blocking = blocking

    def read(self, chat: ChatRef, nonce: str, offset: int, wait_seconds: float) -> list[LogEntry]:
        """Entries with text after `offset`; waits up to `wait_seconds` for the first."""
        key = log_key(chat, nonce)
        after, wait_ms = _id_after(offset), int(wait_seconds * 1000)
        while True:
            rows = self._blocking.read_stream(key, after, wait_ms)
            entries = self.entries(chat, rows)
            if entries or not rows:
                return entries
            after = rows[-1][0].decode()  # only a request to stop: wait for what follows it

    def tail(self, chat: ChatRef, nonce: str) -> "Tail":
        """Non-blocking `read`. Connects to nothing yet."""
        return Tail(self, chat, self._blocking.open_read(log_key(chat, nonce)))

    def stop(self, chat: ChatRef, nonce: str, reason: StopReason) -> tuple[str, StopReason]:
        """Close a log to its producer; returns all its text, and the reason that came first.

        Raises StoreUnavailable.
        """
        key = log_key(chat, nonce)
        request: Command = ("XADD", key, "NOMKSTREAM", _STOP_ID, "s", reason)
        # The request may be refused: it has been made before, or the turn has ended.
        _, rows = self._store.send([request, ("XRANGE", key, "-", "+")])
        if was_refused(rows):
            raise StoreUnavailable("The chat store could not read the turn's log.", retry_after=1)
        reasons = [read_stop_reason(fields[b"s"]) for _, fields in rows if b"s" in fields]
        return glue(self.entries(chat, rows)), (reasons or [reason])[0]

    def entries(self, chat: ChatRef, rows: Rows) -> list[LogEntry]:
        """The entries with text or an ending among rows of a stream."""
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
    return f"{offset}-{_MAX_SEQUENCE}"


def glue(entries: list[LogEntry]) -> str:
    """The text of entries in order; they may overlap."""
    text = ""
    for entry in entries:
        text += text_after(entry, len(text))
    return text


def text_after(entry: LogEntry, offset: int) -> str:
    """The text of an entry that lies after `offset`."""
    new = entry.offset - offset
    return entry.text[-new:] if 0 < new <= len(entry.text) else entry.text if new > 0 else ""
