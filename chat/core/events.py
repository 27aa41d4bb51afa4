"""What a turn tells its clients while it runs: started, deltas, and exactly one ending."""

from typing import Literal

import msgspec

from chat.core.messages import Status

Ending = Literal["completed", "cancelled", "failed", "interrupted"]


class TurnIds(msgspec.Struct, frozen=True):
    """By what names a turn is known."""

    turn_id: str
    chat_id: str
    user_message_id: str
    message_id: str


class Started(msgspec.Struct, frozen=True):
    """The turn has begun; for who resumes it, with the place they resume at."""

    ids: TurnIds
    offset: int = 0


class Delta(msgspec.Struct, frozen=True):
    """The next piece of the answer; `offset` counts the code points up to and with it."""

    text: str
    offset: int


class Reasoning(msgspec.Struct, frozen=True):
    """The next piece of what the model thinks before it answers; no part of the answer."""

    text: str


class KeepAlive(msgspec.Struct, frozen=True):
    """The model is silent, the turn is not over."""


#: What is stored of a turn that ended so, if anything is.
STATUS_OF: dict[Ending, Status] = {
    "completed": "completed",
    "cancelled": "cancelled",
    "failed": "incomplete",
    "interrupted": "incomplete",
}


class Ended(msgspec.Struct, frozen=True):
    """The last event: `message` is the stored message as JSON, `error` the body of an error."""

    ending: Ending
    offset: int
    message: msgspec.Raw | None = None
    error: msgspec.Raw | None = None


Event = Started | Delta | Reasoning | KeepAlive | Ended
