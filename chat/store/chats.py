"""The chats of an owner in Redis, without their messages."""

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from chat.core.errors import QuotaExceeded
from chat.core.messages import Chat, ChatRef, TurnRef, Usage, etag, timestamp
from chat.core.outcomes import Described, ListCursor
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
    sizes_key,
    usage_key,
)
from chat.store.list_page import ListPage, read_list_page
from chat.store.store import Command, Store
from chat.store.vault import Vault

_FIELDS = (
    "created_at updated_at message_count prompt_tokens completion_tokens "
    "title model system metadata turn mark label"
).split()
_SEALED = frozenset({"title", "system", "metadata"})
_LOGS_AT_ONCE = 500
_IDS_AT_ONCE = 1000
_MAX_EMPTY_PAGES = 50
_MAX_LIST_BYTES = 512 * 1024
_SWEPT_AT_ONCE = 100
_MAX_SWEPT_PAGES = 10


class Chats:
    """Creates, reads, changes, lists and deletes chats as a whole."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        self._store = store
        self._vault = vault
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        has_budget = settings.global_daily_token_budget
        self._everybody = {"everybody": everybody_key()} if has_budget else {}
        self._max_chats = settings.max_chats_per_owner
        self._max_stored = settings.max_stored_bytes_per_owner

    def find_chat(self, chat: ChatRef) -> Described | None:
        """A chat, or None when it does not exist."""
        return self._describe([chat])[0]

    def create(self, chat: ChatRef) -> int:
        """Create a chat, if it does not exist, and return when it was created (ms)."""
        keys = {
            "chat": chat_key(chat),
            "chats": chats_key(chat.owner),
            "sizes": sizes_key(chat.owner),
        }
        create = partial(
            self._store.run,
            "create",
            keys,
            chat_id=chat.id,
            mark=secrets.token_hex(4),
            ttl_ms=self._ttl_ms,
            max_chats=self._max_chats,
            max_stored=self._max_stored,
        )
        return self._within_quota(chat.owner, create)

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
            "sizes": sizes_key(chat.owner),
        }
        patch = partial(
            self._store.run,
            "patch",
            keys,
            chat_id=chat.id,
            ttl_ms=self._ttl_ms,
            max_stored=self._max_stored,
            fields=pairs,
        )
        return bool(self._within_quota(chat.owner, patch))

    def _within_quota(self, owner: str, run: Callable[[], list[int | bytes]]) -> int:
        """What a script returns; run once more without expired chats. Raises QuotaExceeded."""
        (reply,) = run()
        if isinstance(reply, bytes):
            self.sweep(owner)
            (reply,) = run()
        if isinstance(reply, bytes):
            raise QuotaExceeded(reply.decode())
        return reply

    def sweep(self, owner: str) -> None:
        """Forget expired chats: some of those that have not been used for longest."""
        after: ListCursor | None = ListCursor("0", "1", "0", "")
        for _ in range(_MAX_SWEPT_PAGES):
            page = read_list_page(self._store, chats_key(owner), _SWEPT_AT_ONCE, after)
            ids = [chat_id for chat_id, _ in page.entries]
            rows = self._read_rows(owner, ids, "created_at") if ids else []
            after = page.next
            if after is None or not all(created for (created,) in rows):
                return

    def _read_rows(self, owner: str, ids: list[str], fields: str) -> list[Any]:
        """Fields of chats, of the first ones that fit; removes from the list what has expired."""
        hashes = [chat_key(ChatRef(owner, chat_id)) for chat_id in ids]
        rows: list[Any] = self._store.run(
            "list",
            {"chats": chats_key(owner), "sizes": sizes_key(owner), "hashes": hashes},
            fields=fields,
            max_bytes=_MAX_LIST_BYTES,
            ids=ids,
        )
        return rows

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
            "sizes": sizes_key(chat.owner),
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
        self, owner: str, limit: int, after: ListCursor | None = None
    ) -> tuple[list[Chat], ListCursor | None]:
        """Chats, the newest first, and the cursor of the next page.

        Who reads all pages misses none: those that have moved up meanwhile come once more at the
        end. No chats although there is a next page: very many have expired.
        """
        chats: list[Chat] = []
        for _ in range(_MAX_EMPTY_PAGES):
            page = read_list_page(self._store, chats_key(owner), limit, after)
            chats, after = self._read_chats(owner, page), page.next
            if chats or after is None:
                break
        return chats, after

    def list_ids(self, owner: str) -> Iterator[str]:
        """The id of every chat, once; some may not exist any more."""
        seen: set[str] = set()
        after = None
        while True:
            page = read_list_page(self._store, chats_key(owner), _IDS_AT_ONCE, after)
            new = [chat_id for chat_id, _ in page.entries if chat_id not in seen]
            yield from new
            seen.update(new)
            if (after := page.next) is None:
                return

    def _read_chats(self, owner: str, page: ListPage) -> list[Chat]:
        """The chats of a page; shortens the page if they have too many bytes."""
        chats = [ChatRef(owner, chat_id) for chat_id, _ in page.entries]
        if not chats:
            return []
        rows = self._read_rows(owner, [chat.id for chat in chats], " ".join(_FIELDS))
        page.shorten(len(rows))
        found = [self._read(chat, row) for chat, row in zip(chats, rows, strict=False)]
        return [each.chat for each in found if each]

    def _describe(self, chats: list[ChatRef]) -> list[Described | None]:
        keys = {"hashes": [chat_key(chat) for chat in chats]}
        rows = self._store.run("describe", keys, fields=_FIELDS)
        return [self._read(chat, row) for chat, row in zip(chats, rows, strict=True)]

    def _read(self, chat: ChatRef, row: list[Any]) -> Described | None:
        created, updated, count, prompt, completion, *named, turn, mark, label = row
        title, model, system, metadata = named
        if created is None:
            return None
        revision = int(count or 0)
        prompt_tokens, completion_tokens = int(prompt or 0), int(completion or 0)
        found = Chat(
            id=chat.id,
            title=self._text(chat, title or label),
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
