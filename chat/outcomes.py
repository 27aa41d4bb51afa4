"""What Redis says about a chat: the outcomes of an attempt to begin a turn, and what can be looked at."""

from dataclasses import dataclass

from chat.keyspace import ChatRef
from chat.limits import Standing
from chat.messages import TurnRef


@dataclass(frozen=True, slots=True)
class Begun:
    """The lease is ours; `messages` are the stored messages from place `start` on."""

    ref: TurnRef
    now_ms: int
    start: int
    model: str
    system: str
    forks: str
    agent: str
    messages: list[bytes]
    standing: Standing

    @property
    def revision(self) -> int:
        return self.ref.index


@dataclass(frozen=True, slots=True)
class Busy:
    """Another turn is running, or was, until its instance died."""

    ref: TurnRef
    alive: bool


@dataclass(frozen=True, slots=True)
class Known:
    """A turn with this idempotency key exists."""

    ref: TurnRef
    body_hash: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The chat is not at the expected revision; `messages` came after that."""

    revision: int
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Limited:
    """The owner, or everybody, has had enough; `running` are the owner's turns, chat and begin in ms."""

    reason: str
    standing: Standing
    now_ms: int
    running: list[tuple[ChatRef, str, int]]


@dataclass(frozen=True, slots=True)
class Stranger:
    """The owner has no record yet."""


Outcome = Begun | Busy | Known | Changed | Limited | Stranger


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages of a history; `first` is the place of the oldest of them."""

    revision: int
    running: bool
    first: int
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Look:
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


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What a streamed turn's log ends with: how, after how many characters, the last of them."""

    ending: str
    length: int
    rest: str
    error: bytes = b""
