"""What is known of a turn once it has ended, for the log, traces and metrics: no content."""

import time

import msgspec

from chat.core.events import Ended, Ending
from chat.core.usage import Used
from chat.models.upstream import ModelCall


class TurnTimes(msgspec.Struct):
    """When what happened, in monotonic seconds; 0 if it did not. Filled in while the turn goes on.

    `attempts_before`: those of the calls before the last one.
    """

    began_at: float
    called_at: float
    answering_at: float = 0.0
    first_text_at: float = 0.0
    answered_at: float = 0.0
    ended_at: float = 0.0
    attempts_before: int = 0

    @property
    def store_seconds(self) -> float:
        """What beginning took."""
        return self.called_at - self.began_at

    @property
    def upstream_seconds(self) -> float:
        """Until the model began to answer; 0 if it has not."""
        return self.answering_at - self.called_at if self.answering_at else 0.0

    def note_text(self) -> None:
        """The first text has come."""
        self.first_text_at = self.first_text_at or time.monotonic()

    def note_answered(self) -> None:
        """Nothing more is wanted of the model; what follows is the commit."""
        self.answered_at = self.answered_at or time.monotonic()

    def note_end(self) -> None:
        """The turn is stored, or dropped."""
        self.ended_at = time.monotonic()


class TurnReport(msgspec.Struct, frozen=True):
    """A turn that has ended. Of several calls of the model: the last; `attempts` are those of all."""

    model: str
    agent: str
    ending: Ending
    code: str  # of the error; "" without one
    attempts: int
    upstream_status: int
    upstream_request_id: str
    upstream_failure: str
    tokens_in: int
    tokens_out: int
    times: TurnTimes

    @property
    def provider(self) -> str:
        """Who answered, as OpenTelemetry calls it: by which protocol."""
        return "agent" if self.agent else "openai"


class _ErrorCode(msgspec.Struct):
    code: str


def make_report(call: ModelCall, ended: Ended, used: Used, times: TurnTimes) -> TurnReport:
    """`call` is the last one. A model that has not begun to answer has used nothing."""
    has_answered = call.answering or ended.offset > 0
    code = msgspec.json.decode(ended.error, type=_ErrorCode).code if ended.error else ""
    return TurnReport(
        model=used.model,
        agent=call.agent,
        ending=ended.ending,
        code=code,
        attempts=times.attempts_before + call.attempts,
        upstream_status=call.upstream_status,
        upstream_request_id=call.upstream_request_id,
        upstream_failure=call.upstream_failure,
        tokens_in=used.prompt_tokens if has_answered else 0,
        tokens_out=used.completion_tokens if has_answered else 0,
        times=times,
    )
