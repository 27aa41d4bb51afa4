"""What a turn tells its clients while it runs: started, deltas, and exactly one ending."""

from typing import Literal

import msgspec

Ending = Literal["completed", "cancelled", "failed", "interrupted"]


class Started(msgspec.Struct, frozen=True):
    """The turn has begun; its ids are known."""

    turn_id: str
    chat_id: str
    user_message_id: str
    message_id: str


class Delta(msgspec.Struct, frozen=True):
    """The next piece of the answer; `offset` counts the code points up to and with it."""

    text: str
    offset: int


class KeepAlive(msgspec.Struct, frozen=True):
    """The model is silent, the turn is not over."""


class Ended(msgspec.Struct, frozen=True):
    """The last event: `message` is the stored message as JSON, `error` the body of an error."""

    ending: Ending
    offset: int
    message: msgspec.Raw | None = None
    error: msgspec.Raw | None = None


Event = Started | Delta | KeepAlive | Ended
