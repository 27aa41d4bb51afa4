"""What `begin.lua` answers, read; and how it is asked whether the chat must exist."""

from typing import Any

from chat.core.credentials import KEY_REVOKED
from chat.core.errors import KeyRejected, NotFound, StoreUnavailable
from chat.core.limits import RateStatus
from chat.core.messages import Ask, ChatRef, TurnRef, etag
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Crowded,
    Known,
    Limited,
    NoRecord,
    Outcome,
    Over,
    OverQuota,
    RunningTurn,
    Torn,
)
from chat.store.vault import Vault

_PLAIN: dict[bytes, Outcome] = {
    b"no_record": NoRecord(),
    b"torn": Torn(),
    b"ended": Over(),
    b"chats": OverQuota("chats"),
    b"bytes": OverQuota("bytes"),
}


def must_exist(ask: Ask | None) -> str:
    """As begin.lua takes it: a message that has waited does not bring a deleted chat back."""
    if ask is None:
        return ""
    return "1" if ask.must_exist else "waited" if ask.has_waited else ""


def read_begin(vault: Vault, chat: ChatRef, nonce: str, reply: list[Any]) -> Outcome:
    """The outcome; raises KeyRejected, and NotFound for a chat that must exist."""
    outcome, now_ms, *details = reply
    if outcome in _PLAIN:
        return _PLAIN[outcome]
    match outcome, details:
        case b"begun", _:
            return _read_begun(vault, chat, nonce, now_ms, details)
        case b"busy", [_, _, _, 0]:
            return Crowded()
        case b"busy", [turn, count, left_ms, place]:
            ref = TurnRef(count, turn.decode()) if turn else None
            return Busy(ref, left_ms > 0, place)
        case b"known", [entry, chat_exists]:
            body_hash, index, known, state = entry.decode().split()
            return Known(TurnRef(int(index), known), body_hash, state, bool(chat_exists))
        case b"changed", [count, mark, messages]:
            return Changed(etag(mark.decode(), count), vault.open_messages(chat, messages))
        case b"limited", [reason, *rate_status, dead]:
            turns = [_read_running(chat.owner, member.decode()) for member in dead]
            return Limited(reason.decode(), RateStatus(*rate_status), turns)
        case b"unknown", []:
            raise NotFound("There is no such chat.", code="chat_not_found")
        case b"rejected", []:
            raise KeyRejected(KEY_REVOKED)
    raise StoreUnavailable("The chat store's answer cannot be read.", retry_after=1)


def _read_begun(vault: Vault, chat: ChatRef, nonce: str, now_ms: int, details: list[Any]) -> Begun:
    count, start, model, system, forks, agent, mark, max_tokens, messages, *rate_status = details
    return Begun(
        TurnRef(count, nonce),
        now_ms,
        start,
        model.decode(),
        vault.open_text(chat, system),
        forks.decode(),
        agent.decode(),
        mark.decode(),
        max_tokens,
        vault.open_messages(chat, messages),
        RateStatus(*rate_status),
    )


def _read_running(owner: str, member: str) -> RunningTurn:
    chat_id, nonce, tokens, day = member.split()
    return RunningTurn(ChatRef(owner, chat_id), nonce, int(tokens), int(day))
