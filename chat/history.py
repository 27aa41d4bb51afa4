"""The chats of an owner in Redis: begin and commit a turn, read, change and delete a chat.

A turn's two writes, begin and commit, may each be sent twice (a client library retries, a cloud
drops a reply) and may be run by nobody's will much later (Redis was frozen while the command
waited in its socket). So both know the turn by its nonce, and carry a deadline in Redis' own time.
"""

import time
from dataclasses import dataclass

import msgspec

from chat.errors import NotFound, StoreUnavailable
from chat.keyspace import chat_keys, chats_key
from chat.messages import Chat, TurnRef, Usage, find_ref, timestamp
from chat.store import Store

PATIENCE_MS = 2000
_DELETED = "The chat was deleted, or its turn taken over, while the model answered."
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
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Busy:
    """Another turn is running."""

    ref: TurnRef


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages of a history; `first` is the place of the oldest of them."""

    revision: int
    first: int
    messages: list[bytes]


class History:
    """What is asked of Redis about chats."""

    def __init__(self, store: Store, lease_seconds: float) -> None:
        self._store = store
        self._lease_ms = int(lease_seconds * 1000)
        self._redis_ahead_ms: int | None = None

    def begin(self, owner: str, chat_id: str, nonce: str) -> Begun | Busy:
        """Take the chat's lease in one round trip, and read what the prompt is made of."""
        keys = chat_keys(owner, chat_id)
        reply = self._store.run(
            "begin", [keys.chat, keys.history], nonce, self._lease_ms, self._deadline()
        )
        outcome, now_ms = reply[0], reply[1]
        self._redis_ahead_ms = now_ms - _monotonic_ms()
        if outcome == b"late":
            raise StoreUnavailable("The chat store answered too late.", retry_after=1)
        if outcome == b"busy":
            return Busy(TurnRef(reply[3], reply[2].decode()))
        revision, start, model, system, messages = reply[2:]
        ref = TurnRef(revision, nonce)
        return Begun(ref, now_ms, start, model.decode(), system.decode(), messages)

    def commit(
        self,
        owner: str,
        chat_id: str,
        ref: TurnRef,
        *,
        began_ms: int,
        now_ms: int,
        user: bytes,
        assistant: bytes,
        usage: Usage,
        fields: dict[str, str | int],
    ) -> bytes:
        """Store a turn's messages and free the lease; returns the assistant's as stored.

        It differs from the one given when somebody else has settled the turn before. Raises
        NotFound when the turn was dropped, or the chat deleted, and nothing is stored.
        """
        keys = chat_keys(owner, chat_id)
        pairs = [part for pair in fields.items() for part in pair]
        reply = self._store.run(
            "commit",
            [keys.chat, keys.history, keys.chats],
            *(ref.nonce, ref.index + 1, ref.message_id, chat_id, now_ms, self._deadline()),
            *(user, assistant, usage.prompt_tokens, usage.completion_tokens, began_ms, *pairs),
        )
        if reply[0] == b"late":
            raise StoreUnavailable("The chat store answered too late.", retry_after=1)
        if reply[0] == b"gone":
            raise NotFound(_DELETED, code="chat_not_found")
        return bytes(reply[1]) if reply[0] == b"settled" else assistant

    def drop(self, owner: str, chat_id: str, ref: TurnRef) -> None:
        """End a turn that leaves nothing behind."""
        self._store.run("drop", [chat_keys(owner, chat_id).chat], ref.nonce)

    def keep_lease(self, owner: str, chat_id: str, ref: TurnRef, now_ms: int) -> bool:
        """Renew the lease; false when the turn is not the chat's any more."""
        key = chat_keys(owner, chat_id).chat
        return bool(self._store.run("beat", [key], ref.nonce, now_ms + self._lease_ms))

    def load(
        self, owner: str, chat_id: str, *, limit: int, before: str = "", known: str = ""
    ) -> Page | None:
        """The newest `limit` messages before the one named; None when there is no such message.

        `known` is a revision the caller has: no messages are read while it is current.
        """
        keys = chat_keys(owner, chat_id)
        place = find_ref(before)
        if before and not place:
            return None
        index = place.index if place else 0
        reply = self._store.run("history", [keys.chat, keys.history], limit, known, index, before)
        return Page(*reply) if reply else None

    def find_chat(self, owner: str, chat_id: str) -> Chat | None:
        key = chat_keys(owner, chat_id).chat
        return _read_chat(chat_id, self._store.run("describe", [key], *_FIELDS)[0])

    def patch(self, owner: str, chat_id: str, fields: dict[str, str]) -> bool:
        """Change a chat's fields; false when there is no such chat."""
        keys = chat_keys(owner, chat_id)
        pairs = [part for pair in fields.items() for part in pair]
        return bool(self._store.run("patch", [keys.chat, keys.chats], chat_id, *pairs))

    def delete(self, owner: str, chat_id: str) -> None:
        """Remove a chat and everything of it, also when there is none."""
        keys = chat_keys(owner, chat_id)
        self._store.run("delete", [keys.chat, keys.history, keys.chats], chat_id)

    def list_chats(
        self, owner: str, limit: int, after: tuple[str, str] | None
    ) -> tuple[list[Chat], tuple[str, str] | None]:
        """The newest chats after the cursor (updated_at in ms, chat id), and the next cursor."""
        reply = self._store.run("chats", [chats_key(owner)], limit + 1, *(after or ("", "")))
        ids = [chat_id.decode() for chat_id in reply[::2]]
        if not ids:
            return [], None
        keys = [chat_keys(owner, chat_id).chat for chat_id in ids[:limit]]
        rows = self._store.run("describe", keys, *_FIELDS)
        chats = [_read_chat(chat_id, row) for chat_id, row in zip(ids, rows, strict=False)]
        more = (reply[2 * limit - 1].decode(), ids[limit - 1]) if len(ids) > limit else None
        return [chat for chat in chats if chat], more

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        self._store.ping()

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


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
