"""The chats of an owner in Redis, without their messages."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from chat.core.errors import QuotaExceeded
from chat.core.messages import Chat, ChatRef, TurnRef, Usage, timestamp
from chat.core.outcomes import ListCursor
from chat.settings import Settings
from chat.store.keyspace import chat_key, chats_key, history_key, log_key, sizes_key
from chat.store.list_page import ListPage, read_list_page
from chat.store.store import Store
from chat.store.vault import Vault

_FIELDS = (
    "created_at updated_at message_count prompt_tokens completion_tokens "
    "title model system metadata turn label"
).split()
_SEALED = frozenset({"title", "system", "metadata"})
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
        self._max_chats = settings.max_chats_per_owner
        self._max_stored = settings.max_stored_bytes_per_owner

    def find_chat(self, chat: ChatRef) -> Chat | None:
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
            ttl_ms=self._ttl_ms,
            max_chats=self._max_chats,
            max_stored=self._max_stored,
        )
        return self._within_quota(chat.owner, create)

    def retitle(self, chat: ChatRef, title: str) -> None:
        """Replace a chat's title, unless a person has set it."""
        keys = {"chat": chat_key(chat)}
        self._store.run("title", keys, title=self._vault.seal_text(chat, title))

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

    def _within_quota(self, owner: str, run: Callable[[], int | bytes]) -> int:
        """What a script returns; run once more without expired chats. Raises QuotaExceeded."""
        reply = run()
        if isinstance(reply, bytes):
            self.sweep(owner)
            reply = run()
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

    def delete(self, chat: ChatRef) -> None:
        """Delete a chat and everything that belongs to it, if it exists."""
        turn, logs = b"", b""
        # All keys must be named when a script is called, but only the chat knows which logs there
        # are: the script deletes nothing, and returns what it knows, until we have named them all.
        while True:
            nonces = [turn.decode(), *(entry.partition("@")[0] for entry in logs.decode().split())]
            keys = {
                "chat": chat_key(chat),
                "history": history_key(chat),
                "chats": chats_key(chat.owner),
                "sizes": sizes_key(chat.owner),
                "logs": [log_key(chat, nonce) for nonce in nonces if nonce],
            }
            changed = self._store.run("delete", keys, chat_id=chat.id, turn=turn, ended_logs=logs)
            if not changed:
                return
            turn, logs = changed

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

    def _read_chats(self, owner: str, page: "ListPage") -> list[Chat]:
        """The chats of a page; shortens the page if they have too many bytes."""
        chats = [ChatRef(owner, chat_id) for chat_id, _ in page.entries]
        if not chats:
            return []
        rows = self._read_rows(owner, [chat.id for chat in chats], " ".join(_FIELDS))
        page.shorten(len(rows))
        found = [self._read(chat, row) for chat, row in zip(chats, rows, strict=False)]
        return [chat for chat in found if chat]

    def _describe(self, chats: list[ChatRef]) -> list[Chat | None]:
        keys = {"hashes": [chat_key(chat) for chat in chats]}
        rows = self._store.run("describe", keys, fields=_FIELDS)
        return [self._read(chat, row) for chat, row in zip(chats, rows, strict=True)]

    def _read(self, chat: ChatRef, row: list[bytes | None]) -> Chat | None:
        created, updated, count, prompt, completion, title, model, system, metadata, turn, label = (
            row
        )
        if created is None:
            return None
        revision = int(count or 0)
        prompt_tokens, completion_tokens = int(prompt or 0), int(completion or 0)
        return Chat(
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

    def _text(self, chat: ChatRef, value: bytes | None) -> str | None:
        return self._vault.open_text(chat, value) if value else None

    def _seal(self, chat: ChatRef, name: str, text: str) -> str | bytes:
        return self._vault.seal_text(chat, text) if name in _SEALED else text
