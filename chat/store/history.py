"""Turns in Redis: begin one, then commit it, or drop it.

Every write of a turn may be sent twice, because a client library retries and a cloud drops replies,
and may be executed long after the caller gave up. So each names the turn by its nonce, the fencing
token; `begin` and `commit` carry a deadline in the time of Redis as well. `drop` carries none: what
is taken back must go, however late.
"""

import contextlib
from typing import Any

import msgspec

from chat.core.credentials import Caller
from chat.core.errors import NotFound, StoreUnavailable
from chat.core.messages import Ask, ChatRef, TurnRef, Usage, write_user_message
from chat.core.outcomes import Finished, Outcome, RunningTurn
from chat.core.prompt import estimate_new
from chat.core.titles import label, short_title
from chat.core.usage import Used, oldest_day
from chat.settings import Settings
from chat.store.begin_reply import must_exist, read_begin
from chat.store.history_edits import HistoryEdits, delivery
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
    waiting_key,
)
from chat.store.store import Argument, Command, Store
from chat.store.take_backs import TAKEN_BACK
from chat.store.vault import Vault

_LINES_BEFORE_ADDING_UP = 128
_MAX_READ_AT_ONCE = 512 * 1024  # what `begin` reads; more than the largest prompt of text
# How a message stands in the queue (lua/parts/queue.lua); "": it does not.
_WAITS = {"enqueue": ":", "reject": "", "interrupt": "!", "rollback": "!"}
_LARGEST_ANSWER = 16_384  # tokens that are reserved where nothing limits the answer
_GONE = "The chat or this turn was deleted while the model answered."


class History(HistoryEdits):
    """Begins and ends turns, and reads what they left."""

    def __init__(self, store: Store, vault: Vault, settings: Settings) -> None:
        super().__init__(store, vault, settings)
        self.lease_ms = int(settings.lease_seconds * 1000)
        self._ttl_ms = int(settings.chat_ttl_seconds * 1000)
        # A turn that is longer than the life of its chat is kept: each beat renews it.
        self.keep_ms = max(self._ttl_ms, 2 * self.lease_ms) if self._ttl_ms else 0
        self._log_ms = int(settings.log_seconds * 1000)
        self._max_chats = settings.max_chats_per_owner
        self._max_stored = settings.max_stored_bytes_per_owner
        self._gives_titles = settings.titles != "off"
        self._queues = settings.queue_seconds > 0
        self._max_waiting = settings.max_waiting_per_owner
        self._limits = limits = settings.limits
        self._rates = limits.rates
        self._max_output_tokens = settings.max_output_tokens
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
                **self._counts(chat),
                "waiting": waiting_key(chat.owner),
            },
            nonce=nonce,
            lease_ms=self.lease_ms,
            asked=self._vault.seal(chat, msgspec.json.encode(ask)) if ask else b"",
            streamed=_flag(ask and ask.stream),
            first_title=self._vault.seal_text(chat, self._first_title(ask)) if ask else "",
            idempotency_field=repeat.field if repeat else "",
            body_hash=repeat.body_hash if repeat else "",
            look_up=_flag(repeat and repeat.look_up),
            recent=repeat.body_hash if repeat and not repeat.field else "",
            waits=_WAITS[ask.when_busy] if ask and self._queues else "",
            max_waiting=self._max_waiting,
            expected=ask.if_match if ask else "",
            keep_ms=self.keep_ms,
            must_exist=must_exist(ask),
            chat_id=chat.id,
            key_hash=caller.key_hash,
            reads_record=_flag(self._reads_record),
            max_bytes=_MAX_READ_AT_ONCE,
            max_chats=self._max_chats,
            max_stored=self._max_stored,
            **self._limit_args(ask),
        )
        self._store.clock.learn(reply[1])
        return read_begin(self._vault, chat, nonce, reply)

    def commit(self, chat: ChatRef, turn: Finished) -> bytes:
        """Store a turn's messages, end its log and free the lease; returns the answer as stored.

        One round trip. The answer stored is another one when somebody else has ended the turn
        before. Raises NotFound when the turn was dropped or the chat deleted, and StoreUnavailable.
        """
        ask, tokens = turn.ask, turn.usage or Usage()
        user = write_user_message(turn.ref, ask, began_ms=turn.began_ms, parent_id=turn.parent_id)
        reply = self._store.run(
            "commit",
            {**self._keys(chat, turn.ref.nonce), **self._accounts(chat)},
            nonce=turn.ref.nonce,
            index=turn.ref.index + 1,
            message_id=turn.ref.message_id,
            chat_id=chat.id,
            now_ms=turn.now_ms,
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
            first_title=self._vault.seal_text(chat, self._first_title(ask)),
            usage_line=turn.used.line(turn.now_ms),
            used_tokens=turn.used.tokens,
            replayed="" if turn.replayed_bytes is None else turn.replayed_bytes,
            max_stored=self._max_stored,
            fields=self._changed_fields(chat, turn),
        )
        return self._read_commit(chat, turn, reply)

    def drop(
        self,
        chat: ChatRef,
        ref: TurnRef,
        ask: Ask,
        error: bytes = TAKEN_BACK,
        used: Used | None = None,
        *,
        rolled_back: bool = False,
        from_outside: bool = False,
    ) -> bytes | None:
        """End a turn that leaves no messages; with an empty error, its log is deleted as well.

        Unless it was rolled back, the same message may be sent again. Returns the stored answer when somebody
        else has ended and stored the turn before.
        """
        booked = used.booked(ref.nonce) if used and from_outside else ""
        args = self._drop_args(chat, ref, ask, error, used)
        args |= {"state": "rolled_back" if rolled_back else "failed", "booked": booked}
        stored: bytes | None = self._store.run("drop", self._drop_keys(chat, ref), **args)
        return None if stored is None else self._vault.open_message(chat, stored)

    def take_back(self, chat: ChatRef, ref: TurnRef, ask: Ask, used: Used | None = None) -> Command:
        """`drop` as a command, for a turn of which nobody knows whether it was begun or stored."""
        args = self._drop_args(chat, ref, ask, TAKEN_BACK, used) | {
            "state": "failed",
            "booked": "",
        }
        return self._store.command("drop", self._drop_keys(chat, ref), **args)

    def release(self, turn: RunningTurn) -> None:
        """Free what a turn has reserved whose chat is lost."""
        self._store.run(
            "release", self._counts(turn.chat), member=turn.member, tokens=turn.tokens, day=turn.day
        )

    def book(self, chat: ChatRef, used: Used, requests: int = 1) -> None:
        """Book what was used beside a turn, or what is only known after its end."""
        keys = self._accounts(chat)
        del keys["running"]
        line = used.line(self._store.clock.now_ms(), requests)
        self._store.run("book", keys, line=line, tokens=used.tokens)

    def _keys(self, chat: ChatRef, nonce: str) -> dict[str, str]:
        return {
            "chat": chat_key(chat),
            "history": history_key(chat),
            "chats": chats_key(chat.owner),
            "once": self._vault.once_key(chat),
            "sizes": sizes_key(chat.owner),
            "log": log_key(chat, nonce),
        }

    def _accounts(self, chat: ChatRef) -> dict[str, str]:
        """The keys in which a turn is accounted for."""
        return {"usage": usage_key(chat.owner), **self._counts(chat)}

    def _counts(self, chat: ChatRef) -> dict[str, str]:
        """The keys in which running turns are counted."""
        return {
            "record": record_key(chat.owner),
            "running": running_key(chat.owner),
            **self._everybody,
        }

    def _drop_keys(self, chat: ChatRef, ref: TurnRef) -> dict[str, str]:
        return {**self._keys(chat, ref.nonce), **self._accounts(chat)}

    def _drop_args(
        self, chat: ChatRef, ref: TurnRef, ask: Ask, error: bytes, used: Used | None
    ) -> dict[str, Argument]:
        return {
            "nonce": ref.nonce,
            "index": ref.index + 1,
            "message_id": ref.message_id,
            "chat_id": chat.id,
            "idempotency_field": ask.repeat.field if ask.repeat else "",
            "body_hash": ask.repeat.body_hash if ask.repeat else "",
            "log_ms": self._log_ms if ask.stream else 0,
            "error": self._vault.seal(chat, error),
            "usage_line": used.line(self._store.clock.now_ms()) if used else "",
            "used_tokens": used.tokens if used else 0,
            "max_stored": self._max_stored,
        }

    def _limit_args(self, ask: Ask | None) -> dict[str, Argument]:
        """The limits of an owner without its own, and what a turn may use."""
        limits, most = self._limits, self._max_output_tokens or _LARGEST_ANSWER
        wanted = ask.max_tokens if ask else None
        answer = min(wanted, most) if wanted and self._max_output_tokens else wanted or most
        counts = ask and self._reads_record
        return {
            "rates": self._rates,
            "daily_tokens": limits.daily_token_budget,
            "concurrent_turns": limits.max_concurrent_turns,
            "all_tokens": self._all_tokens,
            "prompt_tokens": estimate_new(ask) if ask and counts else 0,
            "answer_tokens": answer,
        }

    def _first_title(self, ask: Ask) -> str:
        return ask.title or (short_title(ask.content) if self._gives_titles else "")

    def _changed_fields(self, chat: ChatRef, turn: Finished) -> list[str | bytes | int]:
        """Names and values of the fields of a chat that a turn changes, besides what all change."""
        system = turn.ask.system
        named = label(turn.ask.content) if self._gives_titles and turn.ref.index == 0 else ""
        values: dict[str, str | bytes | int | None] = {
            "start": turn.start,
            "forks": turn.forks,
            "system": None if system is None else self._vault.seal_text(chat, system),
            "agent": turn.agent or None,
            "booked": turn.used.booked(turn.ref.nonce) if turn.from_outside else None,
            "recent": delivery(turn),
            "label": self._vault.seal_text(chat, named) if named else None,
        }
        pairs = [(name, value) for name, value in values.items() if value is not None]
        return [part for pair in pairs for part in pair]

    def _read_commit(self, chat: ChatRef, turn: Finished, reply: list[Any]) -> bytes:
        match reply:
            case b"settled", message, booked:
                self._book_the_rest(chat, turn, booked.decode())
                return self._vault.open_message(chat, message)
            case b"gone", booked:
                self._book_the_rest(chat, turn, booked.decode())
                raise NotFound(_GONE, code="chat_not_found")
            case _, now_ms, lines:
                self._store.clock.learn(now_ms)
                if lines and lines % _LINES_BEFORE_ADDING_UP == 0:
                    self._add_up_usage(chat, now_ms)
        return turn.answer

    def _book_the_rest(self, chat: ChatRef, turn: Finished, booked: str) -> None:
        """What the turn has used beyond what was booked by whoever ended it from outside."""
        rest = None if turn.from_outside else turn.used.beyond(booked, turn.ref.nonce)
        if rest:
            # Should it fail, what was estimated is booked all the same.
            with contextlib.suppress(StoreUnavailable):
                self.book(chat, rest, requests=0)

    def _add_up_usage(self, chat: ChatRef, now_ms: int) -> None:
        """Keep the list of usage from growing with every turn."""
        # Should it fail, the turn is stored all the same: the lines are added up another time.
        with contextlib.suppress(StoreUnavailable):
            keys = {"usage": usage_key(chat.owner)}
            self._store.run("usage", keys, oldest_day=oldest_day(now_ms))


def _flag(on: object) -> str:
    return "1" if on else ""
