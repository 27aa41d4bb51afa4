"""What `begin.lua` answers, read."""

from typing import Any

from chat.core.credentials import KEY_REVOKED
from chat.core.errors import KeyRejected, NotFound, StoreUnavailable
from chat.core.limits import RateStatus
from chat.core.messages import ChatRef, TurnRef
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Crowded,
    Known,
    Limited,
    NoRecord,
    Outcome,
    OverQuota,
)
from chat.store.vault import Vault

_PLAIN: dict[bytes, Outcome] = {
    b"no_record": NoRecord(),
    b"chats": OverQuota("chats"),
    b"bytes": OverQuota("bytes"),
}


def read_begin(vault: Vault, chat: ChatRef, nonce: str, reply: list[Any]) -> Outcome:
    """The outcome; raises KeyRejected, NotFound for a chat that must exist, StoreUnavailable."""
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
        case b"known", [entry]:
            body_hash, index, known = entry.decode().split()
            return Known(TurnRef(int(index), known), body_hash)
        case b"changed", [count, messages]:
            return Changed(count, vault.open_messages(chat, messages))
        case b"limited", [reason, *rate_status, running]:
            turns = [_read_running(chat.owner, entry) for entry in running.decode().split()]
            return Limited(reason.decode(), RateStatus(*rate_status), now_ms, turns)
        case b"unknown", []:
            raise NotFound("There is no such chat.", code="chat_not_found")
        case b"rejected", []:
            raise KeyRejected(KEY_REVOKED)
    raise StoreUnavailable("The chat store answered too late.", retry_after=1)


def _read_begun(vault: Vault, chat: ChatRef, nonce: str, now_ms: int, details: list[Any]) -> Begun:
    count, start, model, system, forks, agent, messages, *rate_status = details
    return Begun(
        TurnRef(count, nonce),
        now_ms,
        start,
        model.decode(),
        vault.open_text(chat, system),
        forks.decode(),
        agent.decode(),
        vault.open_messages(chat, messages),
        RateStatus(*rate_status),
    )


def _read_running(owner: str, entry: str) -> tuple[ChatRef, str, int]:
    chat_id, nonce, began = entry.split("@")
    return ChatRef(owner, chat_id), nonce, int(began)
