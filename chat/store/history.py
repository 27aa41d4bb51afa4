"""Turns in Redis: begin one, then commit it, or drop it.

Every write of a turn may be sent twice, because a client library retries and a cloud drops replies,
and may be executed long after the caller gave up. So each names the turn by its nonce, the fencing
token; `begin` and `commit` carry a deadline in the time of Redis as well.
"""

import contextlib
from typing import Any

import msgspec

from chat.core.credentials import KEY_REVOKED, Caller
from chat.core.errors import KeyRejected, NotFound, StoreUnavailable
from chat.core.limits import RateStatus
from chat.core.messages import Ask, ChatRef, TurnRef, Usage, short_title, write_user_message
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Crowded,
    Finished,
    Known,
    Limited,
    NoRecord,
    Outcome,
)
from chat.core.usage import Used, oldest_day
from chat.settings import Settings
from chat.store.history_reader import HistoryReader
from chat.store.keyspace import (
    chat_key,
    chats_key,
    everybody_key,
    history_key,
    log_key,
    record_key,
    usage_key,
    waiting_key,
)
from chat.store.store import Store
from chat.store.vault import Vault

_LINES_BEFORE_ADDING_UP = 128
# How a message stands in the queue (lua/parts/queue.lua); "": it does not.
_WAITS = {"enqueue": ":", "reject": "", "interrupt": "!", "rollback": "!"}
_TOO_LATE = "The chat store answered too late."
_GONE = "The chat or this turn was deleted while the model answered."


class History(HistoryReader):
    """Begins and ends turns, and reads what they left."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        super().__init__(store, vault)
        self.lease_ms = int(settings.lease_seconds * 1000)
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        self._log_ms = int(settings.log_seconds * 1000)
        self._gives_titles = settings.titles != "off"
        self._queues = settings.queue_seconds > 0
        self._max_waiting = settings.max_waiting_per_owner
        self._limits = limits = settings.limits
        self._rates = limits.rates
        self._all_tokens = settings.global_daily_token_budget
        # Without users and limits, there is nothing to read in an owner's record.
        budgets = (limits.daily_token_budget, limits.max_concurrent_turns, self._all_tokens)
        self._reads_record = settings.knows_users or any((self._rates, *budgets))
        # Only with a common budget, which a cluster cannot have: the key may lie on another node.
        self._everybody = {"everybody": everybody_key()} if self._all_tokens else {}

    def begin(self, chat: ChatRef, caller: Caller, nonce: str, ask: Ask | None = None) -> Outcome:
        """Check the caller, take the chat's lease and read what the prompt is made of.

        One round trip. An empty nonce reads only. Raises KeyRejected, NotFound for a chat that must
        exist, and StoreUnavailable.
        """
        repeat = ask.repeat if ask else None
        reply = self._store.run(
            "begin",
            {
                **self._keys(chat, nonce),
                "record": record_key(chat.owner),
                "waiting": waiting_key(chat.owner),
                **self._everybody,
            },
            nonce=nonce,
            lease_ms=self.lease_ms,
            deadline_ms=self._clock.deadline_ms,
            asked=self._vault.seal(chat, msgspec.json.encode(ask)) if ask else b"",
            streamed=_flag(ask and ask.stream),
            idempotency_field=repeat.field if repeat else "",
            body_hash=repeat.body_hash if repeat else "",
            look_up=_flag(repeat and repeat.look_up),
            waits=_WAITS[ask.when_busy] if ask and self._queues else "",
            max_waiting=self._max_waiting,
            revision="" if ask is None or ask.revision is None else ask.revision,
            ttl_ms=self._ttl_ms,
            must_exist=_flag(ask and ask.must_exist),
            chat_id=chat.id,
            key_hash=caller.key_hash,
            reads_record=_flag(self._reads_record),
            rates=self._rates,
            daily_tokens=self._limits.daily_token_budget,
            concurrent_turns=self._limits.max_concurrent_turns,
            all_tokens=self._all_tokens,
        )
        return self._read_begin(chat, nonce, reply)

    def commit(self, chat: ChatRef, turn: Finished) -> bytes:
        """Store a turn's messages, end its log and free the lease; returns the answer as stored.

        One round trip. The answer stored is another one when somebody else has ended the turn
        before. Raises NotFound when the turn was dropped or the chat deleted, and StoreUnavailable.
        """
        ask, tokens = turn.ask, turn.usage or Usage()
        user = write_user_message(turn.ref, ask, began_ms=turn.began_ms, parent_id=turn.parent_id)
        title = ask.title or (short_title(ask.content) if self._gives_titles else "")
        reply = self._store.run(
            "commit",
            {
                **self._keys(chat, turn.ref.nonce),
                **self._accounts(chat),
                "chats": chats_key(chat.owner),
            },
            nonce=turn.ref.nonce,
            index=turn.ref.index + 1,
            message_id=turn.ref.message_id,
            chat_id=chat.id,
            began_ms=turn.began_ms,
            now_ms=turn.now_ms,
            deadline_ms=self._clock.deadline_ms,
            user=self._vault.seal_message(chat, user),
            answer=self._vault.seal_message(chat, turn.answer),
            prompt_tokens=tokens.prompt_tokens,
            completion_tokens=tokens.completion_tokens,
            ttl_ms=self._ttl_ms,
            log_ms=self._log_ms if ask.stream else 0,
            ending=turn.log.ending,
            length=turn.log.length,
            rest=self._vault.seal_text(chat, turn.log.rest),
            error=self._vault.seal(chat, turn.log.error),
            first_title=self._vault.seal_text(chat, title),
            usage_line=turn.used.line(turn.now_ms),
            used_tokens=turn.used.tokens,
            fields=self._changed_fields(chat, turn),
        )
        return self._read_commit(chat, turn.answer, reply)

    def drop(
        self, chat: ChatRef, ref: TurnRef, ask: Ask, error: bytes = b"{}", used: Used | None = None
    ) -> bytes | None:
        """End a turn that leaves no messages; with an empty error, its log is deleted as well.

        Returns the stored answer when somebody else has ended and stored the turn before.
        """
        stored: bytes | None = self._store.run(
            "drop",
            {**self._keys(chat, ref.nonce), **self._accounts(chat)},
            nonce=ref.nonce,
            index=ref.index + 1,
            message_id=ref.message_id,
            idempotency_field=ask.repeat.field if ask.repeat else "",
            log_ms=self._log_ms if ask.stream else 0,
            error=self._vault.seal(chat, error),
            usage_line=used.line(self._clock.now_ms()) if used else "",
            used_tokens=used.tokens if used else 0,
        )
        return None if stored is None else self._vault.open_message(chat, stored)

    def amend(self, chat: ChatRef, nonce: str, ask: Ask) -> None:
        """Replace what is kept beside a running turn."""
        asked = self._vault.seal(chat, msgspec.json.encode(ask))
        self._store.run("amend", {"chat": chat_key(chat)}, nonce=nonce, asked=asked)

    def replace_message(self, chat: ChatRef, index: int, message: bytes) -> None:
        """Put another message of the same id in the place of a stored one."""
        sealed = self._vault.seal_message(chat, message)
        self._store.run("replace", {"history": history_key(chat)}, index=index, message=sealed)

    def release(self, chat: ChatRef, nonce: str) -> None:
        """Remove a turn that is over from the running turns in its owner's record."""
        self._store.run("release", {"record": record_key(chat.owner)}, nonce=nonce)

    def _keys(self, chat: ChatRef, nonce: str) -> dict[str, str]:
        return {
            "chat": chat_key(chat),
            "history": history_key(chat),
            "log": log_key(chat, nonce),
        }

    def _accounts(self, chat: ChatRef) -> dict[str, str]:
        """The keys in which a turn is accounted for."""
        return {
            "usage": usage_key(chat.owner),
            "record": record_key(chat.owner),
            **self._everybody,
        }

    def _changed_fields(self, chat: ChatRef, turn: Finished) -> list[str | bytes | int]:
        """Names and values of the fields of a chat that a turn changes, besides what all change."""
        system = turn.ask.system
        values: dict[str, str | bytes | int | None] = {
            "start": turn.start,
            "forks": turn.forks,
            "system": None if system is None else self._vault.seal_text(chat, system),
            "agent": turn.agent or None,
        }
        pairs = [(name, value) for name, value in values.items() if value is not None]
        return [part for pair in pairs for part in pair]

    def _read_begin(self, chat: ChatRef, nonce: str, reply: list[Any]) -> Outcome:
        outcome, now_ms, *details = reply
        self._clock.learn(now_ms)
        match outcome, details:
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
            case b"busy", [_, _, _, 0]:
                return Crowded()
            case b"busy", [turn, count, left_ms, place]:
                ref = TurnRef(count, turn.decode()) if turn else None
                return Busy(ref, left_ms > 0, place)
            case b"known", [entry]:
                body_hash, index, known = entry.decode().split()
                return Known(TurnRef(int(index), known), body_hash)
            case b"changed", [count, messages]:
                return Changed(count, self._vault.open_messages(chat, messages))
            case b"limited", [reason, *rate_status, running]:
                turns = [_read_running(chat.owner, entry) for entry in running.decode().split()]
                return Limited(reason.decode(), RateStatus(*rate_status), now_ms, turns)
            case b"no_record", []:
                return NoRecord()
            case b"unknown", []:
                raise NotFound("There is no such chat.", code="chat_not_found")
            case b"rejected", []:
                raise KeyRejected(KEY_REVOKED)
        raise StoreUnavailable(_TOO_LATE, retry_after=1)

    def _read_commit(self, chat: ChatRef, answer: bytes, reply: list[Any]) -> bytes:
        match reply:
            case b"settled", message:
                return self._vault.open_message(chat, message)
            case [b"gone"]:
                raise NotFound(_GONE, code="chat_not_found")
            case b"late", now_ms:
                self._clock.learn(now_ms)
                raise StoreUnavailable(_TOO_LATE, retry_after=1)
            case _, now_ms, lines:
                self._clock.learn(now_ms)
                if lines and lines % _LINES_BEFORE_ADDING_UP == 0:
                    self._add_up_usage(chat, now_ms)
        return answer

    def _add_up_usage(self, chat: ChatRef, now_ms: int) -> None:
        """Keep the list of usage from growing with every turn."""
        # Should it fail, the turn is stored all the same: the lines are added up another time.
        with contextlib.suppress(StoreUnavailable):
            keys = {"usage": usage_key(chat.owner)}
            self._store.run("usage", keys, oldest_day=oldest_day(now_ms))


def _read_running(owner: str, entry: str) -> tuple[ChatRef, str, int]:
    chat_id, nonce, began = entry.split("@")
    return ChatRef(owner, chat_id), nonce, int(began)


def _flag(on: object) -> str:
    return "1" if on else ""
