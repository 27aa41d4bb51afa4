"""Follow a turn from any offset of its answer, on any instance, while it runs and ever after.

While the turn goes on, a question to Redis is open: what comes next in its log? `on_readable` notices
the reply, `work` reads it and asks again. Without a reply, after a while, it asks what became of the
turn.
"""

import time
from collections.abc import Callable

import msgspec

from chat.core.cursors import END
from chat.core.errors import ChatkeepError, NotFound, StoreUnavailable
from chat.core.events import Delta, Ended, Event, KeepAlive
from chat.core.messages import ChatRef, TurnRef, read_answer
from chat.host.flow import WORK_DUE, DueAt, Readable, Wait
from chat.settings import Settings
from chat.store.history import History
from chat.store.turn_log import LogEntry, TurnLog, text_after
from chat.turns.events import ended_as_stored, ended_in_error, started
from chat.turns.recovery import Recovery

_WAIT_SECONDS = 1.0
_LATE_SECONDS = 1.5  # so long after its time a reply is not waited for any more
NOTHING_LEFT = "This turn has ended, and nothing of it is stored."


class Reader:
    """One reader of one turn, from `offset` on: a flow of events, as a Producer is."""

    needs_client = True
    # Who resumes a long answer is sent much of it at once: that alone makes nobody slow.
    max_backlog = 64 * 1024 * 1024
    error = None
    answering = True

    def __init__(
        self,
        chat: ChatRef,
        ref: TurnRef,
        offset: int,
        user_message: bytes,
        *,
        history: History,
        logs: TurnLog,
        recovery: Recovery,
        settings: Settings,
        on_leave: Callable[[], object],
    ) -> None:
        self.ended: Ended | None = None
        self._on_leave: Callable[[], object] | None = on_leave
        self.started = started(chat, ref, user_message, offset)
        # A client that has all of it, and sends the message again, gets the ending alone.
        self.opening: list[Event] = [] if offset == END else [self.started]
        self.chat, self.ref = chat, ref
        self.chat_mark = ""  # known once the answer is found
        self._offset = offset
        self._history = history
        self._logs = logs
        self._recovery = recovery
        self._keepalive_seconds = settings.keepalive_seconds
        self._patience_seconds = settings.store_patience_seconds
        self._wait_seconds = min(_WAIT_SECONDS, settings.keepalive_seconds)
        self._tail = logs.tail(chat, ref.nonce)
        self._due_at = 0.0  # when work is due, whether there is a reply or not
        self._wait: Readable | DueAt = DueAt(self._due_at)
        self._quiet_since = self._store_ok_at = time.monotonic()

    def waits_for(self) -> Wait:
        late = time.monotonic() >= self._due_at
        return WORK_DUE if late or self.ended or self._tail.has_reply else self._wait

    def on_readable(self) -> list[Event]:
        """Notice a reply of Redis."""
        self._tail.receive()
        return self._fill_silence([])

    def work(self) -> list[Event]:
        """Read what the producer wrote, and ask for more; the last event ends the turn."""
        try:
            entries = self._take_entries()
            events = self._read(entries) if entries else self._ask_what_became_of_it()
            self._store_ok_at = time.monotonic()
        except StoreUnavailable as error:
            events = self._wait_for_the_store(error)
        else:
            self._ask_for_more()
        return self._fill_silence(events)

    def leave(self) -> None:
        """Leave, at any time; the question to Redis is taken back."""
        self._tail.close()
        leave, self._on_leave = self._on_leave, None
        if leave:
            leave()

    def _take_entries(self) -> list[LogEntry]:
        if self._tail.asked:
            return self._tail.read()
        # At first, for the turn may have ended long ago; and after a failure, which this read, unlike
        # the tail's, mends where it was a cluster that has moved its keys.
        return self._logs.read(self.chat, self.ref.nonce, self._offset, 0)

    def _ask_for_more(self) -> None:
        if self.ended:
            return
        try:
            self._tail.ask(self._offset, self._wait_seconds)
        except StoreUnavailable:
            self._rest()
        else:
            self._due_at = time.monotonic() + self._wait_seconds + _LATE_SECONDS
            self._wait = Readable(self._tail.fileno())

    def _rest(self) -> None:
        self._due_at = time.monotonic() + self._wait_seconds / 2
        self._wait = DueAt(self._due_at)

    def _read(self, entries: list[LogEntry]) -> list[Event]:
        # First what may fail: then nothing of them counts as said, and they are read again.
        ended = self._find_ending(entries[-1]) if entries[-1].ending else None
        events: list[Event] = []
        for entry in entries:
            self._add(events, text_after(entry, self._offset))
        if ended:
            self.ended = ended
            events.append(ended)
        return events

    def _add(self, events: list[Event], text: str) -> None:
        if text:
            self._offset += len(text)
            events.append(Delta(text, self._offset))

    def _find_ending(self, entry: LogEntry) -> Ended:
        message = self._find_message()
        error = msgspec.Raw(entry.error) if entry.error else None
        if message is None and error is None:
            return _nothing_left()
        body = msgspec.Raw(message) if message else None
        return Ended(entry.ending, entry.offset, message=body, error=error)  # type: ignore[arg-type]

    def _find_message(self) -> bytes | None:
        look = self._history.look_for(self.chat, self.ref)
        self.chat_mark = look.mark
        return look.message or None

    def _ask_what_became_of_it(self) -> list[Event]:
        """Nothing new in the log: the model is silent, or the log is gone, or never was."""
        look = self._recovery.settle_if_dead(self.chat)
        if look.running and look.running.nonce == self.ref.nonce:
            return []
        # It has ended, perhaps since we read: a log that is still there decides.
        if entries := self._logs.read(self.chat, self.ref.nonce, self._offset, 0):
            return self._read(entries)
        message = self._find_message()
        events: list[Event] = []
        if message is None:
            self.ended = _nothing_left()
        else:
            self._add(events, read_answer(message).content[self._offset :])
            self.ended = ended_as_stored(message)
        return [*events, self.ended]

    def _wait_for_the_store(self, error: ChatkeepError) -> list[Event]:
        if time.monotonic() - self._store_ok_at < self._patience_seconds:
            self._rest()
            return []
        self.ended = ended_in_error(error, self._offset)
        return [self.ended]

    def _fill_silence(self, events: list[Event]) -> list[Event]:
        now = time.monotonic()
        if not events and now - self._quiet_since >= self._keepalive_seconds:
            events = [KeepAlive()]
        if events:
            self._quiet_since = now
        return events


def _nothing_left() -> Ended:
    return ended_in_error(NotFound(NOTHING_LEFT, code="turn_not_found"), 0)
