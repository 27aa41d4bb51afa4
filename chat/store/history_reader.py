"""Reading a chat in Redis: its running turn, pages of messages, one branch."""

from typing import Any

from msgspec.structs import replace

from chat.core import branches
from chat.core.messages import ChatRef, TurnRef, etag, find_ref, id_of
from chat.core.outcomes import Look, Page
from chat.store.keyspace import chat_key, history_key
from chat.store.store import Store
from chat.store.vault import Vault


class HistoryReader:
    """Reads messages and running turns; changes nothing."""

    def __init__(self, store: Store, vault: Vault) -> None:
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

    def find_message(self, chat: ChatRef, ref: TurnRef) -> bytes | None:
        """The assistant's message of a turn, once it is stored."""
        return self.look_for(chat, ref).message or None

    def load(
        self, chat: ChatRef, *, limit: int, before: str = "", known: str = "", leaf: str = ""
    ) -> Page | None:
        """The newest `limit` messages before the one named; None when there is no such message.

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
        )
        if not reply:
            return None
        if len(reply) == 4:
            return self._load_branch(chat, reply, limit, before, leaf)
        revision, mark, running, first, messages = reply
        tag = etag(mark.decode(), revision)
        return Page(tag, bool(running), first, self._vault.open_messages(chat, messages))

    def _load_branch(
        self, chat: ChatRef, reply: list[Any], limit: int, before: str, leaf: str
    ) -> Page | None:
        revision, mark, running, text = reply
        forks = branches.read_forks(text.decode())
        end = branches.parent_index(leaf or None, revision)
        if end is None:
            return None
        ranges = branches.path(forks, end)
        if ref := find_ref(before):
            ranges = [(first, min(last, ref.index)) for first, last in ranges if first <= ref.index]
            limit += 1  # read the named message too, to check that it exists
        messages = self.read_ranges(chat, branches.newest(ranges, limit))
        ids = [id_of(message) for message in messages[-2:]]
        if (before and before not in ids[-1:]) or (leaf and not before and leaf not in ids):
            return None
        first = branches.length(ranges) - len(messages)
        tag = etag(mark.decode(), revision)
        return Page(tag, bool(running), first, messages[:-1] if before else messages)

    def read_ranges(self, chat: ChatRef, ranges: branches.Ranges) -> list[bytes]:
        """The messages of ranges of indexes, whose ends are both included."""
        indexes = [index for span in ranges for index in span]
        if not indexes:
            return []
        stored = self._store.run("ranges", {"history": history_key(chat)}, ranges=indexes)
        return self._vault.open_messages(chat, stored)
