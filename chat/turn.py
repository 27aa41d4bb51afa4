"""The state of one turn between the model and its client. Pure: no I/O, no clock, no threads.

In:   `receive(bytes, now)`, `upstream_ended()`, `fail(error)`, `tick(now)`
Out:  the events each of these returns, and once `ended`: `status`, `text`, `error`

    status       meaning                                            stored
    completed    the model came to its end                          yes
    incomplete   a streamed answer broke off after its first text   yes, with the error told
    None         it failed before that                              no

The rules for what is stored live here and nowhere else.
"""

from chat import completions, sse
from chat.errors import ChatkeepError, UpstreamRefused
from chat.events import Delta, Event, KeepAlive
from chat.messages import Status, Usage

_CUT = "The model API broke off in the middle of its answer."
_UNREADABLE = "The model API's answer cannot be read."


class Turn:
    """One answer of the model as it comes; `now` is any clock in seconds that never goes back."""

    def __init__(self, *, stream: bool, keepalive_seconds: float, now: float) -> None:
        self.ended = False
        self.status: Status | None = None
        self.error: ChatkeepError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.offset = 0
        self._pieces: list[str] = []
        self._stream = stream
        self._decoder = sse.Decoder()
        self._body: list[bytes] = []
        self._keepalive_seconds = keepalive_seconds
        self._quiet_since = now

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def receive(self, piece: bytes, now: float) -> list[Event]:
        """Bytes of the upstream's answer."""
        if not self._stream:
            self._body.append(piece)
            return []
        events: list[Event] = []
        for data in self._decoder.receive(piece):
            if self.ended:  # whatever follows [DONE] means nothing
                break
            if data == completions.DONE:
                self._complete()
            else:
                events += self._read_part(data)
        if events:
            self._quiet_since = now
        return events

    def upstream_ended(self) -> list[Event]:
        """The upstream's answer is over, in good order as far as HTTP can tell."""
        if self.ended:
            return []
        events = [] if self._stream else self._read_part(b"".join(self._body))
        whole = self.finish_reason or (not self._stream and self.offset)
        if not self.ended:
            self._complete() if whole else self.fail(UpstreamRefused(_CUT))
        return events

    def fail(self, error: ChatkeepError) -> None:
        """The upstream refused, broke off or stayed silent."""
        if self.ended:
            return
        if self.finish_reason and self._stream:
            self._complete()  # all had been said
            return
        self.ended, self.error = True, error
        self.status = "incomplete" if self._stream and self.offset else None

    def tick(self, now: float) -> list[Event]:
        """Time has passed and nothing came."""
        if self.ended or now - self._quiet_since < self._keepalive_seconds:
            return []
        self._quiet_since = now
        return [KeepAlive()]

    def quiet_for(self, now: float) -> float:
        """Seconds from now until `tick` has something to say."""
        return max(0.0, self._quiet_since + self._keepalive_seconds - now)

    def _complete(self) -> None:
        self.ended, self.status = True, "completed"

    def _read_part(self, data: bytes) -> list[Event]:
        try:
            part = completions.decode(data)
        except completions.BrokenAnswer:
            self.fail(UpstreamRefused(_UNREADABLE))
            return []
        if part.error is not None:
            self.fail(UpstreamRefused(f"The model API failed: {part.error}"))
            return []
        self.usage = part.usage or self.usage
        self.finish_reason = part.finish_reason or self.finish_reason
        if not part.text:
            return []
        self._pieces.append(part.text)
        self.offset += len(part.text)
        return [Delta(part.text, self.offset)]
