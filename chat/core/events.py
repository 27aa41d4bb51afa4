"""The events of a turn: started, deltas, and exactly one ending."""

from typing import Literal, get_args

import msgspec

from chat.core.messages import Status
from chat.core.tool_calls import CallPiece

Ending = Literal["completed", "cancelled", "failed", "interrupted"]
#: Why a turn has to end early: a client's stop, a newer message in its place, or its instance is gone.
StopReason = Literal["cancelled", "rollback", "interrupted"]


class TurnIds(msgspec.Struct, frozen=True):
    """The ids of a turn, as clients see them."""

    turn_id: str
    chat_id: str
    user_message_id: str
    message_id: str


class Started(msgspec.Struct, frozen=True):
    """The turn has begun; `offset` is where a client resumes it, 0 for a new one.

    `mark`: what its cursors begin with; `user_message`: what is being answered, as JSON, if known.
    """

    ids: TurnIds
    mark: str
    offset: int = 0
    user_message: msgspec.Raw | None = None


class Delta(msgspec.Struct, frozen=True):
    """The next piece of the answer; `offset` is the number of code points up to its end."""

    text: str
    offset: int


class Reasoning(msgspec.Struct, frozen=True):
    """The next piece of what the model thinks before it answers; no part of the answer."""

    text: str


class KeepAlive(msgspec.Struct, frozen=True):
    """The model is silent; the turn goes on."""


#: The status of the stored message, if the turn leaves one.
STATUS_OF: dict[Ending, Status] = {
    "completed": "completed",
    "cancelled": "cancelled",
    "failed": "incomplete",
    "interrupted": "incomplete",
}


class Ended(msgspec.Struct, frozen=True):
    """The last event; `message` is the stored message as JSON, `error` the error as JSON."""

    ending: Ending
    offset: int
    message: msgspec.Raw | None = None
    error: msgspec.Raw | None = None


Event = Started | Delta | Reasoning | CallPiece | KeepAlive | Ended


def read_stop_reason(raw: bytes) -> StopReason:
    """As a log has it; an unknown one, of another version, interrupts."""
    return next(
        (reason for reason in get_args(StopReason) if reason.encode() == raw), "interrupted"
    )
