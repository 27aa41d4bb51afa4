"""Reading a chat in Redis: its running turn, pages of messages, one branch."""

from typing import Any

from chat.core import branches
from chat.core.messages import ChatRef, TurnRef, find_ref, id_of
from chat.core.outcomes import Look, Page
from chat.store.keyspace import chat_key, history_key
from chat.store.redis_clock import RedisClock
from chat.store.store import Store
from chat.store.vault import Vault


class HistoryReader:
    """Reads messages and running turns; changes nothing."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._clock = RedisClock()

    def look(self, chat: ChatRef, index: int = -1) -> Look:
        """The running turn, and the answer at an index of the history (-1: the newest)."""
        keys = {"chat": chat_key(chat), "history": history_key(chat)}
        reply = self._store.run("look", keys, index=index)
        now, nonce, left, revision, began, asked, model, forks, ended, before, message = reply
        self._clock.learn(now)
        return Look(
            running=TurnRef(revision, nonce.decode()) if nonce else None,
            alive=left > 0,
            now_ms=now,
            revision=revision,
            began_ms=began,
            asked=self._vault.open(chat, asked),
            model=model.decode(),
            forks=forks.decode(),
            ended=ended.decode(),
            before=self._vault.open_message(chat, before),
            message=self._vault.open_message(chat, message),
        )

    def find_message(self, chat: ChatRef, ref: TurnRef) -> bytes | None:
        """The assistant's message of a turn, once it is stored."""
        message = self.look(chat, ref.index + 1).message
        return message if message.startswith(b'{"id":"%b"' % ref.message_id.encode()) else None

    def load(
        self, chat: ChatRef, *, limit: int, before: str = "", known: str = "", leaf: str = ""
    ) -> Page | None:
        """The newest `limit` messages before the one named; None when there is no such message.

        They are those of the active branch, or those up to `leaf`. `known` is a revision the caller
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
        if len(reply) == 3:
            return self._load_branch(chat, reply, limit, before, leaf)
        revision, running, first, messages = reply
        return Page(revision, bool(running), first, self._vault.open_messages(chat, messages))

    def _load_branch(
        self, chat: ChatRef, reply: list[Any], limit: int, before: str, leaf: str
    ) -> Page | None:
        revision, running, text = reply
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
        return Page(revision, bool(running), first, messages[:-1] if before else messages)

    def read_ranges(self, chat: ChatRef, ranges: branches.Ranges) -> list[bytes]:
        """The messages of ranges of indexes, whose ends are both included."""
        indexes = [index for span in ranges for index in span]
        if not indexes:
            return []
        stored = self._store.run("ranges", {"history": history_key(chat)}, ranges=indexes)
        return self._vault.open_messages(chat, stored)
