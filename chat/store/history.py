"""The messages of a chat in Redis: begin and end a turn, look at one, read what was said.

A turn's writes may each be sent twice (a client library retries, a cloud drops a reply) and may
be run by nobody's will much later (Redis was frozen while a command waited in its socket). So all
of them know the turn by its nonce, and those that matter carry a deadline in Redis' own time.
"""

import contextlib
import time
from typing import Any

import msgspec

from chat.core import branches
from chat.core.credentials import Caller
from chat.core.errors import KeyRejected, NotFound, StoreUnavailable
from chat.core.limits import RateStatus
from chat.core.messages import (
    Ask,
    ChatRef,
    TurnRef,
    Usage,
    find_ref,
    id_of,
    short_title,
    write_user_message,
)
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Known,
    Limited,
    LogEnd,
    Look,
    NoRecord,
    Outcome,
    Page,
)
from chat.core.usage import Used, oldest_day
from chat.settings import Settings
from chat.store.keyspace import (
    EVERYBODY_KEY,
    chat_key,
    chats_key,
    history_key,
    log_key,
    record_key,
    usage_key,
)
from chat.store.store import Store
from chat.store.vault import Vault

PATIENCE_MS = 2000
_LINES_ADDED_UP = 128
_TOO_LATE = "The chat store answered too late."
_GONE = "The chat was deleted, or this turn taken back, while the model answered."


class History:
    """What is asked of Redis about turns and messages."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        self._store = store
        self._vault = vault
        self.lease_ms = int(settings.lease_seconds * 1000)
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        self._log_ms = int(settings.log_seconds * 1000)
        self._gives_titles = settings.titles != "off"
        limits, of_all = settings.limits, settings.global_daily_token_budget
        self._limits = (
            limits.rates,
            limits.daily_token_budget,
            limits.max_concurrent_turns,
            of_all,
        )
        # Without users and limits there is nothing to read in an owner's record.
        self._reads_record = settings.auth_ways != {"open"} or any(self._limits)
        self._everybody = [EVERYBODY_KEY] if of_all else []
        self._redis_ahead_ms: float | None = None
        self._learned_at_ms = 0

    def begin(self, chat: ChatRef, caller: Caller, nonce: str, ask: Ask | None = None) -> Outcome:
        """Check the caller, take the chat's lease and read what the prompt is made of: one round trip.

        Without a nonce, only read. Raises KeyRejected.
        """
        asked = self._vault.seal(chat, msgspec.json.encode(ask)) if ask else b""
        repeat = ask.repeat if ask else None
        key_args = (
            (repeat.field, repeat.body_hash, _flag(repeat.look_up)) if repeat else ("", "", "")
        )
        revision = "" if ask is None or ask.revision is None else ask.revision
        keys = [chat_key(chat), history_key(chat), log_key(chat, nonce), record_key(chat.owner)]
        reply = self._store.run(
            "begin",
            keys + self._everybody,
            *(nonce, self.lease_ms, self._deadline, asked, _flag(bool(ask and ask.stream))),
            *(*key_args, revision, self._ttl_ms, _flag(bool(ask and ask.must_exist)), chat.id),
            *(caller.key_hash, _flag(self._reads_record), *self._limits),
        )
        return self._read_begin(chat, nonce, reply)

    def commit(
        self,
        chat: ChatRef,
        ref: TurnRef,
        ask: Ask,
        answer: bytes,
        log: LogEnd,
        used: Used,
        *,
        began_ms: int,
        now_ms: int,
        parent_id: str | None,
        usage: Usage | None = None,
        start: int | None = None,
        forks: str | None = None,
        agent: str = "",
    ) -> bytes:
        """Store a turn's messages, end its log and free the lease; returns the answer as stored.

        It differs from the one given when somebody else has settled the turn before. Raises
        NotFound when the turn was dropped, or the chat deleted, and nothing is stored.
        """
        tokens = usage or Usage()
        user = write_user_message(ref, ask, began_ms=began_ms, parent_id=parent_id)
        title = ask.title or (short_title(ask.content) if self._gives_titles else "")
        system = None if ask.system is None else self._vault.seal_text(chat, ask.system)
        changed = {"start": start, "forks": forks, "system": system, "agent": agent or None}
        fields = [(name, value) for name, value in changed.items() if value is not None]
        keys = [chat_key(chat), history_key(chat), chats_key(chat.owner), log_key(chat, ref.nonce)]
        reply = self._store.run(
            "commit",
            [*keys, usage_key(chat.owner), record_key(chat.owner), *self._everybody],
            *(ref.nonce, ref.index + 1, ref.message_id, chat.id),
            *(began_ms, now_ms, self._deadline),
            *(self._vault.seal_message(chat, message) for message in (user, answer)),
            *(tokens.prompt_tokens, tokens.completion_tokens),
            *(self._ttl_ms, self._log_ms if ask.stream else 0, log.ending, log.length),
            *(self._vault.seal_text(chat, log.rest), self._vault.seal(chat, log.error)),
            *(self._vault.seal_text(chat, title), used.line(now_ms), used.tokens),
            *(part for field in fields for part in field),
        )
        return self._read_commit(chat, answer, reply)

    def drop(
        self, chat: ChatRef, ref: TurnRef, ask: Ask, error: bytes = b"{}", used: Used | None = None
    ) -> bytes | None:
        """End a turn that leaves nothing behind; an empty error removes its log as well.

        Returns the answer when somebody else has ended the turn before, and stored it.
        """
        keys = [chat_key(chat), history_key(chat), log_key(chat, ref.nonce)]
        field = ask.repeat.field if ask.repeat else ""
        line = (used.line(self._now_ms()), used.tokens) if used else ("", 0)
        stored: bytes | None = self._store.run(
            "drop",
            [*keys, usage_key(chat.owner), record_key(chat.owner), *self._everybody],
            *(ref.nonce, ref.index + 1, ref.message_id, field, self._log_ms if ask.stream else 0),
            *(self._vault.seal(chat, error), *line),
        )
        return None if stored is None else self._vault.open_message(chat, stored)

    def release(self, chat: ChatRef, nonce: str) -> None:
        """Forget a running turn in its owner's record; its chat knows nothing of it."""
        self._store.run("release", [record_key(chat.owner)], nonce)

    def look(self, chat: ChatRef, place: int = -1) -> Look:
        """The running turn, and the message at a place of the history (-1 = the newest)."""
        reply = self._store.run("look", [chat_key(chat), history_key(chat)], place)
        now, nonce, left, revision, began, asked, model, forks, message = reply
        self._learn_time(now)
        ref = TurnRef(revision, nonce.decode()) if nonce else None
        return Look(
            ref,
            left > 0,
            now,
            revision,
            began,
            self._vault.open(chat, asked),
            model.decode(),
            forks.decode(),
            self._vault.open_message(chat, message),
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
        keys = [chat_key(chat), history_key(chat)]
        reply = self._store.run("history", keys, limit, known, index, before, _flag(bool(leaf)))
        if not reply:
            return None
        if len(reply) == 3:
            return self._load_branch(chat, reply, limit, before, leaf)
        messages = self._vault.open_messages(chat, reply[3])
        return Page(reply[0], bool(reply[1]), reply[2], messages)

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
        stored = self._store.run("ranges", [history_key(chat)], *places)
        return self._vault.open_messages(chat, stored)

    def _read_begin(self, chat: ChatRef, nonce: str, reply: list[Any]) -> Outcome:
        outcome, now_ms, *rest = reply
        self._learn_time(now_ms)
        match outcome, rest:
            case b"begun", [count, start, model, system, forks, agent, messages, *rate_status]:
                return Begun(
                    TurnRef(count, nonce),
                    now_ms,
                    start,
                    model.decode(),
                    self._vault.open_text(chat, system),
                    forks.decode(),
                    agent.decode(),
                    self._vault.open_messages(chat, messages),
                    RateStatus(*rate_status),
                )
            case b"busy", [turn, count, left]:
                return Busy(TurnRef(count, turn.decode()), left > 0)
            case b"known", [entry]:
                body_hash, index, known = entry.decode().split()
                return Known(TurnRef(int(index), known), body_hash)
            case b"changed", [count, messages]:
                return Changed(count, self._vault.open_messages(chat, messages))
            case b"limited", [reason, *rate_status, running]:
                turns = [_read_running(chat.owner, entry) for entry in running.decode().split()]
                return Limited(reason.decode(), RateStatus(*rate_status), now_ms, turns)
            case b"stranger", []:
                return NoRecord()
            case b"unknown", []:
                raise NotFound("There is no such chat.", code="chat_not_found")
            case b"rejected", []:
                raise KeyRejected("This key is not valid, or not any more.")
        raise StoreUnavailable(_TOO_LATE, retry_after=1)

    def _read_commit(self, chat: ChatRef, answer: bytes, reply: list[Any]) -> bytes:
        match reply:
            case b"settled", message:
                return self._vault.open_message(chat, message)
            case [b"gone"]:
                raise NotFound(_GONE, code="chat_not_found")
            case b"late", now_ms:
                self._learn_time(now_ms)
                raise StoreUnavailable(_TOO_LATE, retry_after=1)
            case _, now_ms, lines:
                self._learn_time(now_ms)
                if lines and lines % _LINES_ADDED_UP == 0:
                    self._add_up_usage(chat, now_ms)
        return answer

    def _add_up_usage(self, chat: ChatRef, now_ms: int) -> None:
        """So that the list of what the owner used does not grow with every turn."""
        with contextlib.suppress(StoreUnavailable):  # the turn is stored, and so is its line
            self._store.run("usage", [usage_key(chat.owner)], oldest_day(now_ms))

    def _learn_time(self, redis_now_ms: int) -> None:
        """A reply is read after it was written, on a busy machine seconds after: the best one counts.

        It fades by a thousandth, so that clocks that drift apart are followed.
        """
        now_ms = _monotonic_ms()
        ahead_ms: float = redis_now_ms - now_ms
        if self._redis_ahead_ms is not None:
            faded_ms = (now_ms - self._learned_at_ms) / 1000
            ahead_ms = max(ahead_ms, self._redis_ahead_ms - faded_ms)
        self._redis_ahead_ms, self._learned_at_ms = ahead_ms, now_ms

    def _deadline(self) -> int | str:
        """Until when Redis may still run a command, in its own time; unknown before first contact."""
        return "" if self._redis_ahead_ms is None else self._now_ms() + PATIENCE_MS

    def _now_ms(self) -> int:
        """The time in Redis, as far as we know it."""
        if self._redis_ahead_ms is None:
            return int(time.time() * 1000)
        return _monotonic_ms() + int(self._redis_ahead_ms)


def _read_running(owner: str, entry: str) -> tuple[ChatRef, str, int]:
    chat_id, nonce, began = entry.split("@")
    return ChatRef(owner, chat_id), nonce, int(began)


def _flag(on: bool) -> str:
    return "1" if on else ""


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
