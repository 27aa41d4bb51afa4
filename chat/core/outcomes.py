"""What the store answers when a turn begins, what it shows of a chat, and what a turn ends with."""

import msgspec

from chat.core.limits import RateStatus
from chat.core.messages import Ask, ChatRef, TurnRef, Usage
from chat.core.usage import Used


class Begun(msgspec.Struct, frozen=True):
    """The lease is ours; `messages` are the stored messages from index `start` on."""

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
    """Another turn holds the lease, or None does and others wait: `place` is ours in the queue.

    `alive` is false once the lease has expired.
    """

    ref: TurnRef | None
    alive: bool
    place: int


class Crowded(msgspec.Struct, frozen=True):
    """So many messages wait for the chat, or for all chats of the owner, that no other may."""


class Known(msgspec.Struct, frozen=True):
    """There is a turn with this idempotency key."""

    ref: TurnRef
    body_hash: str


class Changed(msgspec.Struct, frozen=True):
    """The chat is not at the expected revision; `messages` were added since."""

    revision: int
    messages: list[bytes]


class Limited(msgspec.Struct, frozen=True):
    """A limit of the owner, or of all owners together, is reached.

    `reason` is rate, budget or turns; `running` are the owner's turns: chat, nonce, begin in ms.
    """

    reason: str
    rate_status: RateStatus
    now_ms: int
    running: list[tuple[ChatRef, str, int]]


class NoRecord(msgspec.Struct, frozen=True):
    """The owner has no record yet."""


Outcome = Begun | Busy | Crowded | Known | Changed | Limited | NoRecord


class Page(msgspec.Struct, frozen=True):
    """Some messages of a history or of one branch; `first` is the index of the oldest of them."""

    revision: int
    running: bool
    first: int
    messages: list[bytes]


class Look(msgspec.Struct, frozen=True):
    """A chat's running turn, the message that was asked for, and the one before that.

    b"": there is none. `ended`: the nonce of the turn that ended last.
    """

    running: TurnRef | None
    alive: bool
    now_ms: int
    revision: int
    began_ms: int
    asked: bytes
    model: str
    forks: str
    ended: str
    before: bytes
    message: bytes


class LogEnd(msgspec.Struct, frozen=True):
    """The last entry of a log: the ending, the answer's length, the text not yet in the log."""

    ending: str
    length: int
    rest: str
    error: bytes = b""


class Finished(msgspec.Struct, frozen=True):
    """A turn that has ended, as `History.commit` stores it.

    `answer` is the assistant's message as JSON. None in `usage`: the model did not report it; in
    `start` and `forks`: the chat's stay as they are. `agent`: who answered, if it was an agent.
    """

    ref: TurnRef
    ask: Ask
    answer: bytes
    log: LogEnd
    used: Used
    began_ms: int
    now_ms: int
    parent_id: str | None
    usage: Usage | None = None
    start: int | None = None
    forks: str | None = None
    agent: str = ""
