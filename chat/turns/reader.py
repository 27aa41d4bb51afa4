"""Follow a turn from any place in its answer, on any instance, while it runs and ever after.

While the turn goes on, a question to Redis is open: what comes next in its log? The driver is the
thread that serves the request, whose `step` waits for the reply; or, where it can have the client's
socket, the relay, which calls `hear` when `fileno` shows something, and `step` once there is a reply.
"""

import time

import msgspec

from chat.core.errors import ChatkeepError, NotFound, StoreUnavailable
from chat.core.events import Delta, Ended, Event, KeepAlive
from chat.core.messages import ChatRef, TurnRef, read_answer
from chat.store.history import History
from chat.store.turn_log import LogEntry, TurnLog, text_after
from chat.turns.producer import ended_as_stored, ended_in_error, started
from chat.turns.recovery import Recovery

_WAIT_SECONDS = 1.0
_LATE_SECONDS = 1.5  # so long after its time a reply is not waited for any more
_NOTHING_LEFT = "This turn has ended, and nothing of it is stored."


class Reader:
    """One reader of one turn, from `offset` on. Looks like a Producer: `step` until it has `ended`."""

    needs_client = True
    # Who resumes a long answer is sent much of it at once: that alone makes nobody slow.
    most_waiting = 64 * 1024 * 1024

    def __init__(
        self,
        chat: ChatRef,
        ref: TurnRef,
        offset: int,
        *,
        history: History,
        logs: TurnLog,
        recovery: Recovery,
        keepalive_seconds: float,
        patience_seconds: float,
    ) -> None:
        self.ended: Ended | None = None
        self.started = started(chat, ref, offset)
        self._chat = chat
        self._ref = ref
        self._offset = offset
        self._history = history
        self._logs = logs
        self._recovery = recovery
        self._keepalive_seconds = keepalive_seconds
        self._patience_seconds = patience_seconds
        self._wait = min(_WAIT_SECONDS, keepalive_seconds)
        self._tail = logs.tail(chat, ref.nonce)
        self._due_at = 0.0  # when a step is due, whether there is a reply or not
        self._quiet_since = self._store_seen_at = time.monotonic()

    def fileno(self) -> int | None:
        """The socket that shows when there is something to `hear`; None when a `step` is due.

        -1 when nothing shows it but the time.
        """
        return None if self.ended or time.monotonic() >= self._due_at else self._tail.fileno()

    def hear(self) -> list[Event]:
        """Notice a reply, without waiting for one."""
        self._tail.is_ready()
        return self._fill_silence([])

    def step(self) -> list[Event]:
        """Wait a while for the producer, and return what it wrote; the last event ends the turn."""
        try:
            entries = self._wait_for_entries()
            events = self._read(entries) if entries else self._ask_what_became_of_it()
            self._store_seen_at = time.monotonic()
        except StoreUnavailable as error:
            events = self._wait_for_the_store(error)
        else:
            self._ask_for_more()
        return self._fill_silence(events)

    def finish(self) -> Ended:
        """Wait for the end."""
        try:
            while not self.ended:
                self.step()
        finally:
            self.close()
        return self.ended

    def close(self) -> None:
        """A reader may leave whenever it likes; what it has asked Redis is taken back."""
        self._tail.close()

    def _wait_for_entries(self) -> list[LogEntry]:
        left = max(0.0, self._due_at - time.monotonic())
        if self._tail.asked:
            return self._tail.read(left)
        # Do not wait at first, the turn may have ended long ago; nor after a failure, which this
        # read, unlike the tail's, mends where it was a cluster that has moved its keys.
        time.sleep(left)
        return self._logs.read(self._chat, self._ref.nonce, self._offset, 0)

    def _ask_for_more(self) -> None:
        if self.ended:
            return
        try:
            self._tail.ask(self._offset, self._wait)
            self._due_at = time.monotonic() + self._wait + _LATE_SECONDS
        except StoreUnavailable:
            self._rest()

    def _rest(self) -> None:
        self._due_at = time.monotonic() + self._wait / 2

    def _read(self, entries: list[LogEntry]) -> list[Event]:
        # First what may fail: then nothing of them counts as said, and they are read again.
        ended = self._find_ending(entries[-1]) if entries[-1].ending else None
        events: list[Event] = []
        for entry in entries:
            self._say(events, text_after(entry, self._offset))
        if ended:
            self.ended = ended
            events.append(ended)
        return events

    def _say(self, events: list[Event], text: str) -> None:
        if text:
            self._offset += len(text)
            events.append(Delta(text, self._offset))

    def _find_ending(self, entry: LogEntry) -> Ended:
        message = self._history.find_message(self._chat, self._ref)
        error = msgspec.Raw(entry.error) if entry.error else None
        if message is None and error is None:
            return _nothing_left()
        body = msgspec.Raw(message) if message else None
        return Ended(entry.ending, entry.offset, message=body, error=error)  # type: ignore[arg-type]

    def _ask_what_became_of_it(self) -> list[Event]:
        """Nothing new in the log: the model is silent, or the log is gone, or never was."""
        look = self._recovery.settle_if_dead(self._chat)
        if look.running and look.running.nonce == self._ref.nonce:
            return []
        # It has ended, perhaps since we read: a log that is still there has the last word.
        if entries := self._logs.read(self._chat, self._ref.nonce, self._offset, 0):
            return self._read(entries)
        message = self._history.find_message(self._chat, self._ref)
        events: list[Event] = []
        if message is None:
            self.ended = _nothing_left()
        else:
            self._say(events, read_answer(message).content[self._offset :])
            self.ended = ended_as_stored(message)
        return [*events, self.ended]

    def _wait_for_the_store(self, error: ChatkeepError) -> list[Event]:
        if time.monotonic() - self._store_seen_at < self._patience_seconds:
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
    return ended_in_error(NotFound(_NOTHING_LEFT, code="turn_not_found"), 0)
