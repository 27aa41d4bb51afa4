"""The chats of an owner in Redis, without their messages."""

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from chat.core.messages import (
    Chat,
    ChatRef,
    TurnRef,
    Usage,
    etag,
    timestamp,
)
from chat.core.outcomes import Described
from chat.core.usage import Used
from chat.settings import Settings
from chat.store.keyspace import (
    chat_key,
    chats_key,
    everybody_key,
    history_key,
    log_key,
    record_key,
    running_key,
    usage_key,
)
from chat.store.store import Command, Store
from chat.store.vault import Vault

_FIELDS = (
    "created_at updated_at message_count prompt_tokens completion_tokens "
    "title model system metadata turn mark"
).split()
_SEALED = frozenset({"title", "system", "metadata"})
_LOGS_AT_ONCE = 500


class Chats:
    """Creates, reads, changes, lists and deletes chats as a whole."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        self._store = store
        self._vault = vault
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        has_budget = settings.global_daily_token_budget
        self._everybody = {"everybody": everybody_key()} if has_budget else {}

    def find_chat(self, chat: ChatRef) -> Described | None:
        """A chat, or None when it does not exist."""
        return self._describe([chat])[0]

    def create(self, chat: ChatRef) -> int:
        """Create a chat, if it does not exist, and return when it was created (ms)."""
        keys = {"chat": chat_key(chat), "chats": chats_key(chat.owner)}
        (created_at,) = self._store.run(
            "create", keys, chat_id=chat.id, mark=secrets.token_hex(4), ttl_ms=self._ttl_ms
        )
        return int(created_at)

    def retitle(self, chat: ChatRef, mark: str, title: str) -> None:
        """Replace the title of the chat with this mark, unless a person has set it."""
        keys = {"chat": chat_key(chat)}
        self._store.run("title", keys, title=self._vault.seal_text(chat, title), mark=mark)

    def patch(self, chat: ChatRef, fields: dict[str, str]) -> bool:
        """Change a chat's fields; false when there is no such chat."""
        named = fields | ({"titled": "1"} if "title" in fields else {})
        pairs = [
            part for name, text in named.items() for part in (name, self._seal(chat, name, text))
        ]
        keys = {
            "chat": chat_key(chat),
            "chats": chats_key(chat.owner),
            "history": history_key(chat),
            "once": self._vault.once_key(chat),
        }
        (done,) = self._store.run("patch", keys, chat_id=chat.id, ttl_ms=self._ttl_ms, fields=pairs)
        return bool(done)

    def delete(self, chat: ChatRef, closed: str = "", used: Used | None = None) -> bool:
        """Delete a chat and everything that belongs to it, if it exists.

        False, and nothing is deleted, when another turn is running than the one that the caller has
        `closed` ("": none); that one is booked with what it has used.
        """
        keys = {
            "chat": chat_key(chat),
            "history": history_key(chat),
            "chats": chats_key(chat.owner),
            "once": self._vault.once_key(chat),
            "usage": usage_key(chat.owner),
            "record": record_key(chat.owner),
            "running": running_key(chat.owner),
            "log": log_key(chat, closed),
            **self._everybody,
        }
        outcome, rest = self._store.run(
            "delete",
            keys,
            chat_id=chat.id,
            closed=closed,
            usage_line=used.line(self._store.clock.now_ms()) if used else "",
            used_tokens=used.tokens if used else 0,
        )
        if outcome == b"running":
            return False
        for commands in _deletions(chat, rest.decode()):
            self._store.write(commands)
        return True

    def list_chats(
        self, owner: str, limit: int, after: tuple[str, str] | None
    ) -> tuple[list[Chat], tuple[str, str] | None]:
        """The newest chats after the cursor (updated_at in ms, chat id), and the next cursor."""
        last_score, last_id = after or ("", "")
        reply = self._store.run(
            "chats",
            {"chats": chats_key(owner)},
            limit=limit + 1,  # one more, to see whether there is a next page
            last_score=last_score,
            last_id=last_id,
            ttl_ms=self._ttl_ms,
        )
        ids = [chat_id.decode() for chat_id in reply[::2]]
        if not ids:
            return [], None
        chats = self._describe([ChatRef(owner, chat_id) for chat_id in ids[:limit]])
        cursor = (reply[2 * limit - 1].decode(), ids[limit - 1]) if len(ids) > limit else None
        return [found.chat for found in chats if found], cursor

    def _describe(self, chats: list[ChatRef]) -> list[Described | None]:
        keys = {"hashes": [chat_key(chat) for chat in chats]}
        rows = self._store.run("describe", keys, fields=_FIELDS)
        return [self._read(chat, row) for chat, row in zip(chats, rows, strict=True)]

    def _read(self, chat: ChatRef, row: list[Any]) -> Described | None:
        created, updated, count, prompt, completion, title, model, system, metadata, turn, mark = (
            row
        )
        if created is None:
            return None
        revision = int(count or 0)
        prompt_tokens, completion_tokens = int(prompt or 0), int(completion or 0)
        found = Chat(
            id=chat.id,
            title=self._text(chat, title),
            created_at=timestamp(int(created)),
            updated_at=timestamp(int(updated or created)),
            message_count=revision,
            model=self._text(chat, model),
            system=self._text(chat, system),
            metadata=msgspec.Raw(self._vault.open(chat, metadata or b"{}")),
            usage=Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens),
            active_turn=TurnRef(revision, turn.decode()).turn_id if turn else None,
        )
        return Described(found, etag((mark or b"").decode(), revision))

    def _text(self, chat: ChatRef, value: bytes | None) -> str | None:
        return self._vault.open_text(chat, value) if value else None

    def _seal(self, chat: ChatRef, name: str, text: str) -> str | bytes:
        return self._vault.seal_text(chat, text) if name in _SEALED else text


def _deletions(chat: ChatRef, logs: str) -> Iterator[list[Command]]:
    """The commands that delete the logs of ended turns, in batches; what is missed expires."""
    nonces = [entry.partition("@")[0] for entry in logs.split()]
    for first in range(0, len(nonces), _LOGS_AT_ONCE):
        yield [("DEL", log_key(chat, nonce)) for nonce in nonces[first : first + _LOGS_AT_ONCE]]
