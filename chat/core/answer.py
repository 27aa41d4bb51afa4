"""The state of one turn between the model and its client. Pure: no I/O, no clock, no threads.

In:   `receive(bytes, now)`, `upstream_ended()`, `fail(error)`, `stop(reason)`, `tick(now)`
Out:  the events each of these returns; once `ending` is set: `stored`, `text`, `error`

    ending       cause                                                stored as
    completed    the model finished                                   completed
    cancelled    a client stopped it                                  cancelled
    interrupted  its instance shut down or died                       incomplete
    failed       a streamed answer broke off after its first text     incomplete
    failed       any earlier failure, or it was rolled back           not at all

An answer over `max_bytes` is completed where they are full, with the finish_reason `length`.

The first ending counts. With `continuations` left, a model that stops at the length limit sets
`goes_on`: the driver then calls it again for more of the same answer. If that call fails, the answer
is complete as it is.

These rules are nowhere else.
"""

from chat.core import completions, sse
from chat.core.errors import ChatkeepError, TurnInProgress, UpstreamRefused
from chat.core.events import Delta, Ending, Event, KeepAlive, StopReason
from chat.core.messages import Usage

CUT = "The model API broke off in the middle of its answer."
_UNREADABLE = "The model API's answer cannot be read."
_TOO_LONG = "The model API's answer is too long to be read."
# JSON writes a byte with six at most. The rest of an unstreamed answer, or of a chunk: ids, usage.
_WRITTEN_AS, _AROUND_BYTES = 6, 64 * 1024
_NO_LIMIT = 2**60
_ROLLED_BACK = "A newer message replaced this turn; nothing of it is stored."


class Answer:
    """One answer of the model; `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        *,
        stream: bool,
        keepalive_seconds: float,
        now: float,
        max_bytes: int = _NO_LIMIT,
        continuations: int = 0,
    ) -> None:
        self.ending: Ending | None = None
        self.stored = False
        self.error: ChatkeepError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.offset = 0
        self.goes_on = False
        self.was_cut = False
        self._bytes_left = max_bytes
        self._most_unread = max_bytes * _WRITTEN_AS + _AROUND_BYTES
        self._continuations = continuations
        self._usage_before: Usage | None = None
        self._continued = False
        self._pieces: list[str] = []
        self._stream = stream
        self._decoder = sse.Decoder()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._keepalive_seconds = keepalive_seconds
        self._quiet_since = now

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def received(self) -> str:
        """The text; of an incomplete unstreamed answer, the raw bytes so far."""
        return self.text or b"".join(self._body).decode(errors="replace")

    def receive(self, piece: bytes, now: float) -> list[Event]:
        """Decode bytes of the upstream's answer; returns the events."""
        if not self._stream:
            return self._gather(piece)
        events: list[Event] = []
        for data in self._decoder.receive(piece):
            if self.ending or self.goes_on:  # ignore anything after [DONE]
                break
            if data == completions.DONE:
                self._complete()
            else:
                events += self._read_part(data)
        if self._decoder.pending > self._most_unread:
            self.fail(UpstreamRefused(_TOO_LONG))
        if events:
            self._quiet_since = now
        return events

    def upstream_ended(self) -> list[Event]:
        """The upstream's HTTP response is complete; returns the events."""
        if self.ending or self.goes_on:
            return []
        events = [] if self._stream else self._read_part(b"".join(self._body))
        if self.ending:
            return events
        whole = self.finish_reason or (not self._stream and self.offset)
        if whole:
            self._complete()
        else:
            self.fail(UpstreamRefused(CUT))
        return events

    def go_on(self) -> None:
        """The model has been called again, to continue."""
        self.goes_on, self._continued = False, True
        self._continuations -= 1
        self._decoder, self._body, self._body_bytes = sse.Decoder(), [], 0
        self._usage_before, self.finish_reason = self.usage, None

    def fail(self, error: ChatkeepError) -> None:
        """The upstream refused, broke off or stayed silent too long."""
        if self.ending or self.goes_on:
            return
        if self.finish_reason and self._stream:
            self._complete()  # the answer was complete already
            return
        if self._continued:
            self.finish_reason = "length"
            self._end("completed")
            return
        self._end("failed", stored=self._stream and self.offset > 0)
        self.error = error

    def stop(self, reason: StopReason) -> None:
        """Somebody wants it to end."""
        if self.ending:
            return
        if reason == "rollback":
            self._end("failed", stored=False)
            self.error = TurnInProgress(_ROLLED_BACK)
        else:
            self._end(reason)

    def tick(self, now: float) -> list[Event]:
        """Returns a KeepAlive when nothing was sent for long enough."""
        if now - self._quiet_since < self._keepalive_seconds:
            return []
        self._quiet_since = now
        return [KeepAlive()]

    def _gather(self, piece: bytes) -> list[Event]:
        """Keep a piece of an unstreamed answer; more than it can have is not waited for."""
        self._body.append(piece)
        self._body_bytes += len(piece)
        if self.ending or self._body_bytes <= self._most_unread:
            return []
        text = completions.read_beginning(b"".join(self._body))
        self._body = []
        if not text:
            self.fail(UpstreamRefused(_TOO_LONG))
            return []
        return self._add(text)

    def _complete(self) -> None:
        if self.finish_reason == "length" and self._continuations:
            self.goes_on = True
        elif not self.ending:
            self._end("completed")

    def _end(self, ending: Ending, *, stored: bool = True) -> None:
        self.ending, self.stored = ending, stored

    def _read_part(self, data: bytes) -> list[Event]:
        try:
            part = completions.decode(data)
        except completions.BrokenAnswer:
            self.fail(UpstreamRefused(_UNREADABLE))
            return []
        if part.error is not None:
            self.fail(UpstreamRefused(f"The model API failed: {part.error}"))
            return []
        if part.usage:
            self.usage = part.usage + self._usage_before if self._usage_before else part.usage
        self.finish_reason = part.finish_reason or self.finish_reason
        return self._add(part.text) if part.text else []

    def _add(self, text: str) -> list[Event]:
        """Take text; of what is too much, only the beginning."""
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._bytes_left:
            text = text.encode()[: self._bytes_left].decode(errors="ignore")
            self.was_cut, self.finish_reason = True, "length"
            self._end("completed")
        self._bytes_left -= size
        self._pieces.append(text)
        self.offset += len(text)
        return [Delta(text, self.offset)] if text else []
