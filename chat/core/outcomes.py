"""What the store answers when a turn begins, what it shows of a chat, and what a turn ends with."""

import msgspec

from chat.core.limits import RateStatus
from chat.core.messages import Ask, Chat, ChatRef, TurnRef, Usage
from chat.core.usage import Used


class Begun(msgspec.Struct, frozen=True):
    """The lease is ours; `messages` are the stored messages from index `start` on.

    `mark`: the chat's; `max_tokens`: what a budget leaves for the answer (0: any length).
    """

    ref: TurnRef
    now_ms: int
    start: int
    model: str
    system: str
    forks: str
    agent: str
    mark: str
    max_tokens: int
    messages: list[bytes]
    rate_status: RateStatus

    @property
    def revision(self) -> int:
        return self.ref.index

    @property
    def whole(self) -> bool:
        """Whether all messages were read; those with many bytes, and a chat's with forks, were not."""
        return len(self.messages) == self.revision - self.start


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
    """There was a turn with this idempotency key.

    `state` is run, failed (nothing was left) or rolled_back; `chat_exists`: it was not deleted since.
    """

    ref: TurnRef
    body_hash: str
    state: str
    chat_exists: bool


class Changed(msgspec.Struct, frozen=True):
    """The chat has not the expected ETag; `messages` were added since."""

    etag: str
    messages: list[bytes]


class Limited(msgspec.Struct, frozen=True):
    """A limit of the owner, or of all owners together, is reached.

    `reason` is rate, budget, reserved (what runs may use up the budget) or turns; `dead` are turns
    of the owner whose lease has run out, and which still hold what they have reserved.
    """

    reason: str
    rate_status: RateStatus
    dead: list["RunningTurn"]


class RunningTurn(msgspec.Struct, frozen=True):
    """A turn that is counted, as it is kept in Redis: its chat, its nonce, what it has reserved."""

    chat: ChatRef
    nonce: str
    tokens: int
    day: int

    @property
    def member(self) -> str:
        return f"{self.chat.id} {self.nonce} {self.tokens} {self.day}"


class OverQuota(msgspec.Struct, frozen=True):
    """The owner may not have more `what`: chats or bytes."""

    what: str


class NoRecord(msgspec.Struct, frozen=True):
    """The owner has no record yet."""


class Torn(msgspec.Struct, frozen=True):
    """Messages of the chat have been lost, as an eviction does; what is left of it must go."""


class Over(msgspec.Struct, frozen=True):
    """This very turn was begun and has been ended since, by somebody else."""


Outcome = Begun | Busy | Crowded | Known | Changed | Limited | OverQuota | NoRecord | Torn | Over


class Page(msgspec.Struct, frozen=True):
    """Some messages of a history or of one branch; `first` is the index of the oldest of them."""

    etag: str
    running: bool
    first: int
    messages: list[bytes]


class Described(msgspec.Struct, frozen=True):
    """A chat, and its ETag."""

    chat: Chat
    etag: str


class ListCursor(msgspec.Struct, frozen=True):
    """Where a list goes on: after the entry of this score and id, on a way that began at `top` (ms).

    `rising` "1": to the entries that have moved up since; "0": to older ones.
    """

    top: str
    rising: str
    score: str
    id: str


class Look(msgspec.Struct, frozen=True):
    """A chat's running turn, the message that was asked for, and the one before that.

    b"": there is none. `mark`: that of the chat; `ended`: the nonce of the turn that ended last.
    """

    running: TurnRef | None
    alive: bool
    now_ms: int
    revision: int
    began_ms: int
    asked: bytes
    model: str
    forks: str
    mark: str
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
    `start` and `forks`: the chat's stay as they are. `replayed_bytes`: of the messages from `start`
    on, without this turn's. `agent`: who answered, if it was an agent. `from_outside`: its producer
    does not know, and will learn what has been booked for it. `undelivered`: its client has left.
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
    replayed_bytes: int | None = None
    forks: str | None = None
    agent: str = ""
    from_outside: bool = False
    undelivered: bool = False
