"""The state of one answer between the model and its client. Pure: no I/O, no clock, no threads.

In:   `head(...)`, `receive(bytes, now)`, `upstream_ended()`, `fail(error)`, `stop(reason)`, `tick(now)`
Out:  the events each of these returns; once `ending` is set: `stored`, `text`, `error`

    ending       how it came about                                    stored as
    completed    the model came to its end                            completed
    cancelled    somebody asked for it                                cancelled
    interrupted  its instance was told to end, or taken for dead      incomplete
    failed       a streamed answer broke off after its first text     incomplete, with the error told
    failed       anything before that; or it was rolled back          not at all

The model came to its end when it said so (`[DONE]`, or a finish reason and then silence), or when
the whole of an unstreamed answer is there. An end without a word, a tool call or a finish reason is
none. The first ending counts. A turn that goes on by itself (`continuations`) sets `goes_on` when
the model stops for length in mid-answer: the driver then calls the model again, and what comes is
more of the same answer. When that fails, the answer is complete with what there is.

These rules live here and nowhere else.
"""

from chat.core.chunks import Chunk, Words
from chat.core.errors import ChatkeepError, TurnInProgress, UpstreamRefused
from chat.core.events import Delta, Ending, Event, KeepAlive, Reasoning
from chat.core.messages import Usage
from chat.core.refusals import describe, tell
from chat.core.reply import ReplyDecoder
from chat.core.speech import Speech, without_thinking
from chat.core.usual_chunks import decode

CUT = "The model API broke off in the middle of its answer."
_UNREADABLE = "The model API's answer cannot be read."
_SILENT = "The model API ended its answer without saying anything."
_ROLLED_BACK = "A newer message took this turn's place; nothing of it is stored."
#: So long after a finish reason the usage may still come; some servers leave the connection open.
GRACE_SECONDS = 1.0


class Answer:
    """One answer of the model as it comes; `now` is any clock in seconds that never goes back.

    `secret`: the key of the model API, hidden in whatever is told. `reasoning` is what the model
    thought; it is told as events only if `tells_reasoning`.
    """

    def __init__(
        self,
        *,
        stream: bool,
        keepalive_seconds: float,
        now: float,
        continuations: int = 0,
        secret: str = "",
        tells_reasoning: bool = False,
    ) -> None:
        self.ending: Ending | None = None
        self.stored = False
        self.error: ChatkeepError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.offset = 0
        self.goes_on = False
        self._stream = stream
        self._keepalive_seconds = keepalive_seconds
        self._continuations = continuations
        self._secret = secret
        self._tells_reasoning = tells_reasoning
        self._usage_before: Usage | None = None
        self._continued = False
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._quiet_since = now
        self._begin_round()

    def _begin_round(self) -> None:
        """One call of the model begins."""
        self._reply = ReplyDecoder(stream=self._stream)
        self._speech = Speech()
        self._round_offset = self.offset
        self._finished_at: float | None = None
        self._hint = ""
        self._is_whole = self._calls_tools = False
        self._has_deltas = self._has_gaps = self._is_cut = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    @property
    def heard(self) -> str:
        """All that was said and thought; of an unstreamed answer that is not whole, as it came."""
        return self.reasoning + self.text or self._reply.body.decode(errors="replace")

    def head(self, content_encoding: str = "") -> None:
        """The head of the model API's response has come."""
        self._reply.head(content_encoding)

    def receive(self, piece: bytes, now: float) -> list[Event]:
        """Bytes of the upstream's answer."""
        events: list[Event] = []
        for data in self._reply.receive(piece):
            if self.ending or self.goes_on:  # whatever follows [DONE] means nothing
                break
            events += self._hear(decode(data), now)
        if events:
            self._quiet_since = now
            return events
        return self.tick(now)

    def upstream_ended(self, *, cut: bool = False) -> list[Event]:
        """The upstream's answer is over; `cut`: not in good order, as far as HTTP can tell.

        What is whole counts all the same.
        """
        if self.ending or self.goes_on:
            return []
        self._is_cut = cut
        events: list[Event] = []
        for data in self._reply.end():
            if not (self.ending or self.goes_on):
                events += self._hear(decode(data), self._quiet_since)
        if self.ending or self.goes_on:
            return events
        events += self._tell(*self._speech.end())
        if stray := self._reply.stray:
            self._hint = self._hint or describe(stray.decode("utf-8", "replace"))
        if self.finish_reason or not self._says_something or self._is_all_there:
            self._complete()
        else:
            self.fail(UpstreamRefused(self._told_hint or CUT))
        return events

    def go_on(self) -> None:
        """The model has been called again."""
        self.goes_on, self._continued = False, True
        self._continuations -= 1
        self._usage_before, self.finish_reason = self.usage, None
        self._begin_round()

    def fail(self, error: ChatkeepError) -> None:
        """The upstream refused, broke off or stayed silent."""
        if self.ending or self.goes_on:
            return
        if self.finish_reason:
            self._complete()  # all had been said
            return
        if self._continued:
            self._end_silent()
        else:
            self._end_failed(error)

    def stop(self, reason: str) -> None:
        """Somebody wants it to end: `cancelled`, `interrupted`, or `rollback`."""
        if self.ending:
            return
        if reason == "rollback":
            self._end("failed", stored=False)
            self.error = TurnInProgress(_ROLLED_BACK)
        else:
            self._end("cancelled" if reason == "cancelled" else "interrupted")

    def tick(self, now: float) -> list[Event]:
        """Time has passed and nothing was said."""
        if self._is_finished(now) and not (self.ending or self.goes_on):
            self._complete()
        if now - self._quiet_since < self._keepalive_seconds:
            return []
        self._quiet_since = now
        return [KeepAlive()]

    def _is_finished(self, now: float) -> bool:
        since = self._finished_at
        return since is not None and now - since >= GRACE_SECONDS

    def quiet_for(self, now: float) -> float:
        """Seconds from now until `tick` has something to do."""
        due_at = self._quiet_since + self._keepalive_seconds
        if self._finished_at is not None and not self.ending:
            due_at = min(due_at, self._finished_at + GRACE_SECONDS)
        return max(0.0, due_at - now)

    @property
    def _says_something(self) -> bool:
        return self.offset > self._round_offset or self._calls_tools

    @property
    def _is_all_there(self) -> bool:
        """Whether an answer needs no finish reason, because it came in one piece."""
        return self._is_whole or self._reply.is_whole

    @property
    def _told_hint(self) -> str:
        return self._hint and self._reason(self._hint)

    def _complete(self) -> None:
        """The model has come to its end."""
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
        """Whether this call brought something to go on from."""
        return self.offset > self._round_offset and not self.text[self._round_offset :].isspace()

    def _end_silent(self) -> None:
        """Nothing came of this call; what an earlier one brought is an answer all the same."""
        if self._continued:
            self.finish_reason = "length"
            self._end("completed")
            return
        reason = CUT if self._is_cut else _SILENT
        self._end_failed(UpstreamRefused(self._told_hint or reason))

    def _end_failed(self, error: ChatkeepError) -> None:
        self._end("failed", stored=self._stream and self.offset > 0)
        self.error, self.finish_reason = error, None

    def _end(self, ending: Ending, *, stored: bool = True) -> None:
        self.ending, self.stored = ending, stored
        if self.offset and self.usage and not self.usage.completion_tokens:
            self.usage = None  # something was said, so that is no count

    def _hear(self, words: Words, now: float) -> list[Event]:
        text, reasoning = words.text, words.reasoning
        if isinstance(words, Chunk):
            return self._hear_chunk(words, now)
        self._has_deltas = True
        if not self._speech.is_plain:
            text, reasoning = self._speech.hear(text, reasoning)
        if words.usage:
            self._count(words.usage)
        if self._finished_at is not None:
            self._finished_at = now
        return self._tell(text, reasoning)

    def _hear_chunk(self, chunk: Chunk, now: float) -> list[Event]:
        """A chunk that says more than words."""
        text = chunk.text
        if chunk.is_whole and self.offset > self._round_offset:
            text = self._rest_of(text)
        events = self._tell(*self._speech.hear(text, chunk.reasoning))
        self._note(chunk)
        if chunk.finish_reason:
            self.finish_reason = chunk.finish_reason
        if chunk.finish_reason or (events and self._finished_at is not None):
            self._finished_at = now
        if chunk.finish_reason or chunk.error is not None or chunk.done:
            events += self._tell(*self._speech.end())
        if chunk.error is not None:
            self.fail(UpstreamRefused(self._reason(chunk.error)))
        if chunk.done and not self.ending:
            self._complete()
        return events

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
        return f"The model API failed: {tell(words, self._secret)}"

    def _rest_of(self, whole: str) -> str:
        """What is new in a whole answer, after pieces of it."""
        said, whole = self.text[self._round_offset :], without_thinking(whole)
        if whole.startswith(said):
            return whole[len(said) :]
        return "" if self._has_deltas else whole

    def _tell(self, text: str, thought: str) -> list[Event]:
        if thought:
            return [*self._tell_thought(thought), *self._tell(text, "")]
        if not text:
            return []
        self._pieces.append(text)
        self.offset += len(text)
        return [Delta(text, self.offset)]

    def _tell_thought(self, thought: str) -> list[Event]:
        self._thoughts.append(thought)
        return [Reasoning(thought)] if self._tells_reasoning else []
