"""Reading a chat in Redis: its running turn, pages of messages, one branch."""

from typing import Any

from msgspec.structs import replace

from chat.core import branches
from chat.core.errors import too_large_at_once
from chat.core.messages import ChatRef, TurnRef, etag, find_ref, id_of
from chat.core.outcomes import Look, Page
from chat.host.gate import Gate
from chat.settings import Settings
from chat.store.keyspace import chat_key, history_key
from chat.store.store import Store
from chat.store.vault import Vault

_MAX_READ_ON = 1024 * 1024
_LARGE_AT_ONCE = 3
SMALL_PAGE_BYTES = 256 * 1024


class HistoryReader:
    """Reads messages and running turns; changes nothing."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        self.large = Gate(_LARGE_AT_ONCE, too_large_at_once)
        self._max_page_bytes = settings.max_page_bytes
        self._store = store
        self._vault = vault

    def look(self, chat: ChatRef, index: int = -1) -> Look:
        """The running turn, and the answer at an index of the history (-1: the newest)."""
        keys = {"chat": chat_key(chat), "history": history_key(chat)}
        reply = self._store.run("look", keys, index=index)
        now, nonce, left, revision, began, asked, model, forks, mark, ended, messages = reply
        self._store.clock.learn(now)
        before, message = (
            self._vault.open_messages(chat, messages) if len(messages) == 2 else (b"", b"")
        )
        return Look(
            running=TurnRef(revision, nonce.decode()) if nonce else None,
            alive=left > 0,
            now_ms=now,
            revision=revision,
            began_ms=began,
            asked=self._vault.open(chat, asked),
            model=model.decode(),
            forks=forks.decode(),
            mark=mark.decode(),
            ended=ended.decode(),
            before=before,
            message=message,
        )

    def look_for(self, chat: ChatRef, ref: TurnRef) -> Look:
        """The running turn, and the messages of a certain one; b"" unless it is stored."""
        look = self.look(chat, ref.index + 1)
        is_it = look.message.startswith(b'{"id":"%b"' % ref.message_id.encode())
        return look if is_it else replace(look, before=b"", message=b"")

    def load(
        self,
        chat: ChatRef,
        *,
        limit: int,
        before: str = "",
        known: str = "",
        leaf: str = "",
        most: int = 0,
    ) -> Page | None:
        """The newest `limit` messages before the one named; None when there is no such message.

        Fewer when they have more than MAX_PAGE_BYTES together; `most`: than so many bytes.
        They are those of the active branch, or those up to `leaf`. `known` is an ETag the caller
        has: while it is current, no messages are read.
        """
        ref = find_ref(before)
        if before and not ref:
            return None
        reply = self._store.run(
            "history",
            {"chat": chat_key(chat), "history": history_key(chat)},
            limit=limit,
            known=known,
            index=ref.index if ref else 0,
            before=before,
            branch="1" if leaf else "",
            max_bytes=most or self._max_page_bytes,
        )
        if not reply:
            return None
        if len(reply) == 4:
            return self._load_branch(chat, reply, limit, before, leaf, most or self._max_page_bytes)
        revision, mark, running, first, messages = reply
        tag = etag(mark.decode(), revision)
        return Page(tag, bool(running), first, self._vault.open_messages(chat, messages))

    def _load_branch(
        self, chat: ChatRef, reply: list[Any], limit: int, before: str, leaf: str, most: int
    ) -> Page | None:
        revision, mark, running, text = reply
        forks = branches.read_forks(text.decode())
        end = branches.parent_index(leaf or None, revision)
        if end is None:
            return None
        ranges = branches.path(forks, end)
        if ref := find_ref(before):
            named = self.read_ranges(chat, branches.up_to(ranges, ref.index)[-1:], 1)
            if [id_of(message) for message in named] != [before]:
                return None
            ranges = branches.up_to(ranges, ref.index - 1)
        newest = branches.newest(ranges, limit)
        messages = self.read_ranges(chat, newest, most)
        if leaf and not before and leaf not in [id_of(message) for message in messages[-2:]]:
            return None
        tag = etag(mark.decode(), revision)
        return Page(tag, bool(running), branches.length(ranges) - len(messages), messages)

    def read_ranges(self, chat: ChatRef, ranges: branches.Ranges, max_bytes: int) -> list[bytes]:
        """The messages of ranges of indexes, both ends included: the newest that fit, at least one."""
        indexes = [index for span in ranges for index in span]
        if not indexes:
            return []
        keys = {"history": history_key(chat)}
        stored = self._store.run("ranges", keys, max_bytes=max_bytes, ranges=indexes)
        return self._vault.open_messages(chat, stored)

    def read_on(self, chat: ChatRef, first: int) -> list[bytes]:
        """Some messages from an index on, of all branches; none at the end."""
        keys = {"history": history_key(chat)}
        stored = self._store.run("next", keys, first=first, max_bytes=_MAX_READ_ON)
        return self._vault.open_messages(chat, stored)
