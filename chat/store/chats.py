"""The chats of an owner in Redis, without their messages: make, describe, change, list, forget."""

import msgspec

from chat.core.messages import Chat, ChatRef, TurnRef, Usage, timestamp
from chat.settings import Settings
from chat.store.keyspace import chat_key, chats_key, history_key, log_key
from chat.store.store import Store
from chat.store.vault import Vault

_FIELDS = (
    "created_at updated_at message_count prompt_tokens completion_tokens "
    "title model system metadata turn"
).split()
_SEALED = frozenset({"title", "system", "metadata"})


class Chats:
    """What is asked of Redis about chats as a whole."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        self._store = store
        self._vault = vault
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)

    def find_chat(self, chat: ChatRef) -> Chat | None:
        return self._read(chat, self._store.run("describe", [chat_key(chat)], *_FIELDS)[0])

    def create(self, chat: ChatRef) -> int:
        """Make a chat without messages; when it was made (ms)."""
        made: int = self._store.run(
            "create", [chat_key(chat), chats_key(chat.owner)], chat.id, self._ttl_ms
        )
        return made

    def retitle(self, chat: ChatRef, title: str) -> None:
        """Replace a chat's title, unless a person has set it."""
        self._store.run("title", [chat_key(chat)], self._vault.seal_text(chat, title))

    def patch(self, chat: ChatRef, fields: dict[str, str]) -> bool:
        """Change a chat's fields; false when there is no such chat."""
        named = fields | ({"titled": "1"} if "title" in fields else {})
        pairs = [
            part for name, text in named.items() for part in (name, self._seal(chat, name, text))
        ]
        places = [chat_key(chat), chats_key(chat.owner), history_key(chat)]
        return bool(self._store.run("patch", places, chat.id, self._ttl_ms, *pairs))

    def delete(self, chat: ChatRef) -> None:
        """Remove a chat and everything of it, also when there is none."""
        turn, logs = b"", b""
        while True:
            nonces = [turn.decode(), *(entry.partition("@")[0] for entry in logs.decode().split())]
            places = [log_key(chat, nonce) for nonce in nonces if nonce]
            every = [chat_key(chat), history_key(chat), chats_key(chat.owner), *places]
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
        found = [ChatRef(owner, chat_id) for chat_id in ids[:limit]]
        rows = self._store.run("describe", [chat_key(chat) for chat in found], *_FIELDS)
        chats = [self._read(chat, row) for chat, row in zip(found, rows, strict=True)]
        more = (reply[2 * limit - 1].decode(), ids[limit - 1]) if len(ids) > limit else None
        return [chat for chat in chats if chat], more

    def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        self._store.ping()

    def _read(self, chat: ChatRef, row: list[bytes | None]) -> Chat | None:
        created, updated, count, prompt, completion, title, model, system, metadata, turn = row
        if created is None:
            return None
        revision, asked, said = int(count or 0), int(prompt or 0), int(completion or 0)
        return Chat(
            id=chat.id,
            title=self._text(chat, title),
            created_at=timestamp(int(created)),
            updated_at=timestamp(int(updated or created)),
            message_count=revision,
            model=self._text(chat, model),
            system=self._text(chat, system),
            metadata=msgspec.Raw(self._vault.open(chat, metadata or b"{}")),
            usage=Usage(asked, said, asked + said),
            active_turn=TurnRef(revision, turn.decode()).turn_id if turn else None,
        )

    def _text(self, chat: ChatRef, value: bytes | None) -> str | None:
        return self._vault.open_text(chat, value) if value else None

    def _seal(self, chat: ChatRef, name: str, text: str) -> str | bytes:
        return self._vault.seal_text(chat, text) if name in _SEALED else text
