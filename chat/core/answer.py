"""The state of one answer between the model and its client. Pure: no I/O, no clock, no threads.

In:   `head(...)`, `receive(bytes, now)`, `upstream_ended()`, `fail(error)`, `stop(reason)`, `tick(now)`
Out:  the events each of these returns; once `ending` is set: `stored`, `text`, `error`

    ending       cause                                                stored as
    completed    the model finished                                   completed
    cancelled    a client stopped it                                  cancelled
    interrupted  its instance shut down or died                       incomplete
    failed       a streamed answer broke off after its first text     incomplete
    failed       any earlier failure, or it was rolled back           not at all

The model has finished when it says so (`[DONE]`, or a finish reason and then silence), or when an
unstreamed answer is whole. An end without text, a tool call or a finish reason is a failure.
An answer over `max_bytes` is completed where they are full, with the finish_reason `length`.
The first ending counts. With `continuations` left, a model that stops at the length limit sets
`goes_on`: the driver then calls it again for more of the same answer. If that call fails, the answer
is complete as it is.
"""

from chat.core.chunks import Chunk, Words
from chat.core.cut_text import LimitedText, read_beginning
from chat.core.errors import ChatkeepError, TurnInProgress, UpstreamRefused
from chat.core.events import Delta, Ending, Event, KeepAlive, Reasoning, StopReason
from chat.core.messages import Usage
from chat.core.refusals import describe, sanitize
from chat.core.reply import ReplyDecoder
from chat.core.speech import Speech, without_thinking
from chat.core.tool_calls import ToolCalls
from chat.core.usual_chunks import decode

CUT = "The model API broke off in the middle of its answer."
_UNREADABLE = "The model API's answer cannot be read."
_TOO_LONG = "The model API's answer is too long to be read."
_NO_LIMIT = 2**60
_SILENT = "The model API ended its answer without saying anything."
_ROLLED_BACK = "A newer message replaced this turn; nothing of it is stored."
#: After a finish reason only the usage may follow; some servers leave the connection open.
GRACE_SECONDS = 1.0


class Answer:
    """One answer of the model; `now` is a monotonic clock in seconds.

    `secrets`: keys of the model API, hidden in every error. `reasoning` is what the model thought;
    it becomes events only if `tells_reasoning`.
    """

    def __init__(
        self,
        *,
        stream: bool,
        keepalive_seconds: float,
        now: float,
        max_bytes: int = _NO_LIMIT,
        continuations: int = 0,
        secrets: tuple[str, ...] = (),
        tells_reasoning: bool = False,
    ) -> None:
        self.ending: Ending | None = None
        self.stored = self.goes_on = self.was_cut = False
        self.error: ChatkeepError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.offset = 0
        self._max_bytes = max_bytes
        self._stream = stream
        self._keepalive_seconds = keepalive_seconds
        self._continuations = continuations
        self._secrets = secrets
        self._tells_reasoning = tells_reasoning
        self._usage_before: Usage | None = None
        self._continued = False
        self._said, self._thoughts = LimitedText(max_bytes), LimitedText(max_bytes)
        self._quiet_since = now
        self._begin_round()

    def _begin_round(self) -> None:
        """One call of the model begins."""
        self._reply = ReplyDecoder(stream=self._stream, max_bytes=self._max_bytes)
        self._speech, self.calls = Speech(), ToolCalls()
        self._round_offset = self.offset
        self._finished_at: float | None = None
        self._hint = ""
        self._is_whole = self._calls_tools = False
        self._has_deltas = self._has_gaps = self._is_cut = False

    @property
    def text(self) -> str:
        return self._said.text

    @property
    def reasoning(self) -> str:
        return self._thoughts.text

    @property
    def received(self) -> str:
        """The thinking and the text; of an incomplete unstreamed answer, the raw bytes so far."""
        return self.reasoning + self.text or self._reply.body.decode(errors="replace")

    def head(self, content_encoding: str = "") -> None:
        """The head of the response has come."""
        self._reply.head(content_encoding)

    def receive(self, piece: bytes, now: float) -> list[Event]:
        """Decode bytes of the upstream's answer; returns the events."""
        events: list[Event] = []
        for data in self._reply.receive(piece):
            if self.ending or self.goes_on:  # ignore anything after [DONE]
                break
            events += self._read(decode(data), now)
        if self._reply.is_too_long and not self.ending:
            events += self._stop_reading()
        if events:
            self._quiet_since = now
            return events
        return self.tick(now)

    def _stop_reading(self) -> list[Event]:
        """More than an answer can have has come in one piece: take what can be seen of it."""
        text = read_beginning(self._reply.body)
        self._reply = ReplyDecoder(stream=self._stream, max_bytes=self._max_bytes)
        if not text:
            self.fail(UpstreamRefused(_TOO_LONG))
        return self._tell(text, "")

    def upstream_ended(self, *, cut: bool = False) -> list[Event]:
        """The upstream's HTTP response has ended; returns the events.

        `cut`: it broke off. An answer that is whole counts nevertheless.
        """
        if self.ending or self.goes_on:
            return []
        self._is_cut = cut
        events: list[Event] = []
        for data in self._reply.end():
            if not (self.ending or self.goes_on):
                events += self._read(decode(data), self._quiet_since)
        if self.ending or self.goes_on:
            return events
        events += self._tell(*self._speech.end())
        if stray := self._reply.stray:
            self._hint = self._hint or describe(stray.decode("utf-8", "replace"))
        if self.finish_reason or not self._says_something or self._is_all_there:
            self._complete()
        else:
            self.fail(UpstreamRefused((self._hint and self._reason(self._hint)) or CUT))
        return events

    def go_on(self) -> None:
        """The model has been called again, to continue."""
        self.goes_on, self._continued = False, True
        self._continuations -= 1
        self._usage_before, self.finish_reason = self.usage, None
        self._begin_round()

    def close(self) -> None:
        """The model is not called again: the answer is complete as it is."""
        self.goes_on = False
        self._end("completed")

    def fail(self, error: ChatkeepError) -> None:
        """The upstream refused, broke off or stayed silent too long."""
        if self.ending or self.goes_on:
            return
        if self.finish_reason:
            self._complete()  # the answer was complete already
        elif self._continued:
            self._end_silent()
        else:
            self._end_failed(error)

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
        """Time has passed: the model may have finished, or a KeepAlive may be due."""
        done = self._finished_at is not None and now - self._finished_at >= GRACE_SECONDS
        if done and not (self.ending or self.goes_on):
            self._complete()
        if now - self._quiet_since < self._keepalive_seconds:
            return []
        self._quiet_since = now
        return [KeepAlive()]

    @property
    def _says_something(self) -> bool:
        return self.offset > self._round_offset or self._calls_tools

    @property
    def _is_all_there(self) -> bool:
        """Whether an answer needs no finish reason, because it came in one piece."""
        return self._is_whole or self._reply.is_whole

    def _complete(self) -> None:
        """The model has finished."""
        if self._has_gaps and not (self._is_all_there and self._says_something):
            self._end_failed(UpstreamRefused(CUT if self._is_cut else _UNREADABLE))
        elif not (self._says_something or self.finish_reason):
            self._end_silent()
        elif self.finish_reason == "length" and self._continuations and self._has_words:
            self.goes_on = True
        else:
            self._end("completed")

    @property
    def _has_words(self) -> bool:
        """Whether this call returned text that can be continued."""
        return self.offset > self._round_offset and not self.text[self._round_offset :].isspace()

    def _end_silent(self) -> None:
        """This call returned nothing; the text of an earlier one remains an answer."""
        if self._continued:
            self.finish_reason = "length"
            self._end("completed")
            return
        reason = CUT if self._is_cut else _SILENT
        self._end_failed(UpstreamRefused((self._hint and self._reason(self._hint)) or reason))

    def _end_failed(self, error: ChatkeepError) -> None:
        self._end("failed", stored=self._stream and self.offset > 0)
        self.error, self.finish_reason = error, None

    def _end(self, ending: Ending, *, stored: bool = True) -> None:
        self.ending, self.stored = ending, stored
        if self.offset and self.usage and not self.usage.completion_tokens:
            self.usage = None  # zero beside a text is no count

    def _read(self, words: Words, now: float) -> list[Event]:
        text, reasoning = words.text, words.reasoning
        if isinstance(words, Chunk):
            return self._read_chunk(words, now)
        self._has_deltas = True
        if not self._speech.is_plain:
            text, reasoning = self._speech.receive(text, reasoning)
        if words.usage:
            self._count(words.usage)
        if self._finished_at is not None:
            self._finished_at = now
        return self._tell(text, reasoning)

    def _read_chunk(self, chunk: Chunk, now: float) -> list[Event]:
        """A chunk that holds more than text."""
        text = chunk.text
        if chunk.is_whole and self.offset > self._round_offset:
            text = self._rest_of(text)
        events = self._tell(*self._speech.receive(text, chunk.reasoning))
        self._note(chunk)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        if chunk.finish_reason or (events and self._finished_at is not None):
            self._finished_at = now
        if chunk.finish_reason or chunk.error is not None or chunk.done:
            events += self._tell(*self._speech.end())
        if chunk.error is not None:
            self.fail(UpstreamRefused(self._reason(chunk.error)))
        if chunk.done and not self.ending:
            self._complete()
        return [*events, *self.calls.receive(chunk.tool_calls)]

    def _note(self, chunk: Chunk) -> None:
        self._hint = self._hint or chunk.hint
        self._is_whole |= chunk.is_whole and bool(chunk.text)
        self._has_deltas |= bool(chunk.text) and not chunk.is_whole
        self._calls_tools |= chunk.calls_tools
        self._has_gaps |= chunk.is_unread
        if chunk.usage:
            self._count(chunk.usage)

    def _count(self, usage: Usage) -> None:
        self.usage = usage + self._usage_before if self._usage_before else usage

    def _reason(self, words: str) -> str:
        return f"The model API failed: {sanitize(words, *self._secrets)}"

    def _rest_of(self, whole: str) -> str:
        """The new part of a whole answer that follows pieces of itself."""
        known, whole = self.text[self._round_offset :], without_thinking(whole)
        if whole.startswith(known):
            return whole[len(known) :]
        return "" if self._has_deltas else whole

    def _tell(self, text: str, thought: str) -> list[Event]:
        if thought:
            self._thoughts.add(thought)
            events: list[Event] = [Reasoning(thought)] if self._tells_reasoning else []
            return [*events, *self._tell(text, "")]
        if not text:
            return []
        self.offset += len(kept := self._said.add(text))
        if kept != text:
            self.was_cut, self.finish_reason = True, "length"
            self._end("completed")
        return [Delta(kept, self.offset)] if kept else []
