"""What Redis says about a chat: the outcomes of an attempt to begin a turn, and what can be looked at."""

import msgspec

from chat.core.limits import RateStatus
from chat.core.messages import ChatRef, TurnRef


class Begun(msgspec.Struct, frozen=True):
    """The lease is ours; `messages` are the stored messages from place `start` on."""

    ref: TurnRef
    now_ms: int
    start: int
    model: str
    system: str
    forks: str
    agent: str
    messages: list[bytes]
    rate_status: RateStatus

    @property
    def revision(self) -> int:
        return self.ref.index


class Busy(msgspec.Struct, frozen=True):
    """Another turn is running, or was, until its instance died."""

    ref: TurnRef
    alive: bool


class Known(msgspec.Struct, frozen=True):
    """A turn with this idempotency key exists."""

    ref: TurnRef
    body_hash: str


class Changed(msgspec.Struct, frozen=True):
    """The chat is not at the expected revision; `messages` came after that."""

    revision: int
    messages: list[bytes]


class Limited(msgspec.Struct, frozen=True):
    """The owner, or everybody, has had enough; `running` are the owner's turns, chat and begin in ms."""

    reason: str
    rate_status: RateStatus
    now_ms: int
    running: list[tuple[ChatRef, str, int]]


class NoRecord(msgspec.Struct, frozen=True):
    """The owner has no record yet."""


Outcome = Begun | Busy | Known | Changed | Limited | NoRecord


class Page(msgspec.Struct, frozen=True):
    """Some messages of a history; `first` is the place of the oldest of them."""

    revision: int
    running: bool
    first: int
    messages: list[bytes]


class Look(msgspec.Struct, frozen=True):
    """A chat's running turn, and the message that was asked for (or b"")."""

    running: TurnRef | None
    alive: bool
    now_ms: int
    revision: int
    began_ms: int
    asked: bytes
    model: str
    forks: str
    message: bytes


class LogEnd(msgspec.Struct, frozen=True):
    """What a streamed turn's log ends with: how, after how many characters, the last of them."""

    ending: str
    length: int
    rest: str
    error: bytes = b""
