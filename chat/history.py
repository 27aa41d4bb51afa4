"""The chats of an owner in Redis: begin and end a turn; read, change and delete a chat.

A turn's writes may each be sent twice (a client library retries, a cloud drops a reply) and may
be run by nobody's will much later (Redis was frozen while a command waited in its socket). So all
of them know the turn by its nonce, and those that matter carry a deadline in Redis' own time.
"""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from chat import branches
from chat.errors import NotFound, StoreUnavailable
from chat.keyspace import ChatRef, chats_key
from chat.messages import (
    Ask,
    Chat,
    TurnRef,
    Usage,
    find_ref,
    first_words,
    id_of,
    timestamp,
    write_user_message,
)
from chat.settings import Settings
from chat.store import Store

PATIENCE_MS = 2000
_TOO_LATE = "The chat store answered too late."
_GONE = "The chat was deleted, or this turn taken back, while the model answered."
_FIELDS = (
    "created_at updated_at message_count prompt_tokens completion_tokens "
    "title model system metadata turn"
).split()


@dataclass(frozen=True, slots=True)
class Begun:
    """The lease is ours; `messages` are the stored messages from place `start` on."""

    ref: TurnRef
    now_ms: int
    start: int
    model: str
    system: str
    forks: str
    messages: list[bytes]

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


class History:
    """What is asked of Redis about chats."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self.lease_ms = int(settings.lease_seconds * 1000)
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        self._log_ms = int(settings.log_seconds * 1000)
        self._gives_titles = settings.titles != "off"
        self._redis_ahead_ms: int | None = None

    def begin(
        self, chat: ChatRef, nonce: str, ask: Ask | None = None
    ) -> Begun | Busy | Known | Changed:
        """Take the chat's lease in one round trip, and read what the prompt is made of.

        Without a nonce, only read.
        """
        asked = msgspec.json.encode(ask) if ask else b""
        repeat = ask.repeat if ask else None
        key_args = (
            (repeat.field, repeat.body_hash, _flag(repeat.look_up)) if repeat else ("", "", "")
        )
        revision = "" if ask is None or ask.revision is None else ask.revision
        reply = self._store.run(
            "begin",
            [chat.key, chat.history_key, chat.log_key(nonce)],
            *(nonce, self.lease_ms, self._deadline(), asked, _flag(bool(ask and ask.stream))),
            *(*key_args, revision, self._ttl_ms, _flag(bool(ask and ask.must_exist))),
        )
        return self._read_begin(nonce, reply)

    def peek(self, chat: ChatRef) -> Begun:
        """Read what a prompt would be made of, without beginning a turn."""
        begun = self.begin(chat, "")
        assert isinstance(begun, Begun)
        return begun

    def commit(
        self,
        chat: ChatRef,
        ref: TurnRef,
        ask: Ask,
        answer: bytes,
        log: LogEnd,
        *,
        began_ms: int,
        now_ms: int,
        parent_id: str | None,
        usage: Usage | None = None,
        start: int | None = None,
        forks: str | None = None,
    ) -> bytes:
        """Store a turn's messages, end its log and free the lease; returns the answer as stored.

        It differs from the one given when somebody else has settled the turn before. Raises
        NotFound when the turn was dropped, or the chat deleted, and nothing is stored.
        """
        tokens = usage or Usage()
        user = write_user_message(ref, ask, began_ms=began_ms, parent_id=parent_id)
        title = ask.title or (first_words(ask.content) if self._gives_titles else "")
        changed = {"start": start, "forks": forks, "system": ask.system}
        fields = [(name, value) for name, value in changed.items() if value is not None]
        reply = self._store.run(
            "commit",
            [chat.key, chat.history_key, chat.chats_key, chat.log_key(ref.nonce)],
            *(
                ref.nonce,
                ref.index + 1,
                ref.message_id,
                chat.id,
                began_ms,
                now_ms,
                self._deadline(),
            ),
            *(user, answer, tokens.prompt_tokens, tokens.completion_tokens),
            *(self._ttl_ms, self._log_ms if ask.stream else 0),
            *(log.ending, log.length, log.rest, log.error, title),
            *(part for field in fields for part in field),
        )
        if reply[0] == b"settled":
            return bytes(reply[1])
        if reply[0] == b"gone":
            raise NotFound(_GONE, code="chat_not_found")
        self._learn_time(reply[1])
        if reply[0] == b"late":
            raise StoreUnavailable(_TOO_LATE, retry_after=1)
        return answer

    def drop(self, chat: ChatRef, ref: TurnRef, ask: Ask, error: bytes = b"{}") -> bytes | None:
        """End a turn that leaves nothing behind; an empty error removes its log as well.

        Returns the answer when somebody else has ended the turn before, and stored it.
        """
        keys = [chat.key, chat.history_key, chat.log_key(ref.nonce)]
        field = ask.repeat.field if ask.repeat else ""
        log_ms = self._log_ms if ask.stream else 0
        names = (ref.nonce, ref.index + 1, ref.message_id)
        stored: bytes | None = self._store.run("drop", keys, *names, field, log_ms, error)
        return stored

    def look(self, chat: ChatRef, place: int = -1) -> Look:
        """The running turn, and the message at a place of the history (-1 = the newest)."""
        reply = self._store.run("look", [chat.key, chat.history_key], place)
        now, nonce, left, revision, began, asked, model, forks, message = reply
        self._learn_time(now)
        ref = TurnRef(revision, nonce.decode()) if nonce else None
        return Look(
            ref, left > 0, now, revision, began, asked, model.decode(), forks.decode(), message
        )

    def find_message(self, chat: ChatRef, ref: TurnRef) -> bytes | None:
        """The assistant's message of a turn."""
        message = self.look(chat, ref.index + 1).message
        return message if message.startswith(b'{"id":"%b"' % ref.message_id.encode()) else None

    def load(
        self, chat: ChatRef, *, limit: int, before: str = "", known: str = "", leaf: str = ""
    ) -> Page | None:
        """The newest `limit` messages before the one named; None when there is no such message.

        They are the active branch's, or those up to `leaf`. `known` is a revision the caller has:
        no messages are read while it is current.
        """
        place = find_ref(before)
        if before and not place:
            return None
        index = place.index if place else 0
        keys = [chat.key, chat.history_key]
        reply = self._store.run("history", keys, limit, known, index, before, _flag(bool(leaf)))
        if not reply:
            return None
        if len(reply) == 3:
            return self._load_branch(chat, reply, limit, before, leaf)
        return Page(reply[0], bool(reply[1]), reply[2], reply[3])

    def _load_branch(
        self, chat: ChatRef, reply: list[Any], limit: int, before: str, leaf: str
    ) -> Page | None:
        revision, running, text = reply
        forks = branches.read_forks(text.decode())
        end = branches.parent_place(leaf or None, revision)
        if end is None:
            return None
        ranges = branches.path(forks, end)
        if ref := find_ref(before):
            ranges = [(first, min(last, ref.index)) for first, last in ranges if first <= ref.index]
            limit += 1  # the one named is read as well, to see that it is there
        messages = self.read_ranges(chat, branches.newest(ranges, limit))
        ids = [id_of(message) for message in messages[-2:]]
        if (before and before not in ids[-1:]) or (leaf and not before and leaf not in ids):
            return None
        first = branches.length(ranges) - len(messages)
        return Page(revision, bool(running), first, messages[:-1] if before else messages)

    def read_ranges(self, chat: ChatRef, ranges: branches.Ranges) -> list[bytes]:
        """The messages at some places."""
        if not ranges:
            return []
        places = (place for span in ranges for place in span)
        messages: list[bytes] = self._store.run("ranges", [chat.history_key], *places)
        return messages

    def find_chat(self, chat: ChatRef) -> Chat | None:
        return _read_chat(chat.id, self._store.run("describe", [chat.key], *_FIELDS)[0])

    def create(self, chat: ChatRef) -> int:
        """Make a chat without messages; when it was made (ms)."""
        made: int = self._store.run("create", [chat.key, chat.chats_key], chat.id, self._ttl_ms)
        return made

    def retitle(self, chat: ChatRef, expected: str, title: str) -> None:
        """Replace a chat's title, if it is still the expected one."""
        self._store.run("title", [chat.key], expected, title)

    def patch(self, chat: ChatRef, fields: dict[str, str]) -> bool:
        """Change a chat's fields; false when there is no such chat."""
        pairs = [part for pair in fields.items() for part in pair]
        places = [chat.key, chat.chats_key, chat.history_key]
        return bool(self._store.run("patch", places, chat.id, self._ttl_ms, *pairs))

    def delete(self, chat: ChatRef) -> None:
        """Remove a chat and everything of it, also when there is none."""
        turn, logs = b"", b""
        while True:
            nonces = [turn.decode(), *(entry.partition("@")[0] for entry in logs.decode().split())]
            places = [chat.log_key(nonce) for nonce in nonces if nonce]
            every = [chat.key, chat.history_key, chat.chats_key, *places]
            reply = self._store.run("delete", every, chat.id, turn, logs)
            if not reply:
                return
            turn, logs = reply

    def list_chats(
        self, owner: str, limit: int, after: tuple[str, str] | None
    ) -> tuple[list[Chat], tuple[str, str] | None]:
        """The newest chats after the cursor (updated_at in ms, chat id), and the next cursor."""
        place = after or ("", "")
        reply = self._store.run("chats", [chats_key(owner)], limit + 1, *place, self._ttl_ms)
        ids = [chat_id.decode() for chat_id in reply[::2]]
        if not ids:
            return [], None
        keys = [ChatRef(owner, chat_id).key for chat_id in ids[:limit]]
        rows = self._store.run("describe", keys, *_FIELDS)
        chats = [_read_chat(chat_id, row) for chat_id, row in zip(ids, rows, strict=False)]
        more = (reply[2 * limit - 1].decode(), ids[limit - 1]) if len(ids) > limit else None
        return [chat for chat in chats if chat], more

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        self._store.ping()

    def _read_begin(self, nonce: str, reply: list[Any]) -> Begun | Busy | Known | Changed:
        outcome, now_ms, *rest = reply
        self._learn_time(now_ms)
        match outcome, rest:
            case b"begun", [count, start, *texts, messages]:
                model, system, forks = (text.decode() for text in texts)
                return Begun(TurnRef(count, nonce), now_ms, start, model, system, forks, messages)
            case b"busy", [turn, count, left]:
                return Busy(TurnRef(count, turn.decode()), left > 0)
            case b"known", [entry]:
                body_hash, index, known = entry.decode().split()
                return Known(TurnRef(int(index), known), body_hash)
            case b"unknown", []:
                raise NotFound("There is no such chat.", code="chat_not_found")
            case b"changed", [count, messages]:
                return Changed(count, messages)
        raise StoreUnavailable(_TOO_LATE, retry_after=1)

    def _learn_time(self, redis_now_ms: int) -> None:
        self._redis_ahead_ms = redis_now_ms - _monotonic_ms()

    def _deadline(self) -> int | str:
        """Until when Redis may still run a command, in its own time; unknown before first contact."""
        if self._redis_ahead_ms is None:
            return ""
        return _monotonic_ms() + self._redis_ahead_ms + PATIENCE_MS


def _read_chat(chat_id: str, row: list[bytes | None]) -> Chat | None:
    created, updated, count, prompt, completion, title, model, system, metadata, turn = row
    if created is None:
        return None
    revision, asked, said = int(count or 0), int(prompt or 0), int(completion or 0)
    return Chat(
        id=chat_id,
        title=_text(title),
        created_at=timestamp(int(created)),
        updated_at=timestamp(int(updated or created)),
        message_count=revision,
        model=_text(model),
        system=_text(system),
        metadata=msgspec.Raw(metadata or b"{}"),
        usage=Usage(asked, said, asked + said),
        active_turn=TurnRef(revision, turn.decode()).turn_id if turn else None,
    )


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _flag(on: bool) -> str:
    return "1" if on else ""


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
