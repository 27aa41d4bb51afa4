"""The first and the last event of a turn, as a producer and a reader tell them."""

import msgspec

from chat.core.answer import CUT
from chat.core.errors import ChatkeepError, UpstreamRefused
from chat.core.events import Ended, Started, TurnIds
from chat.core.messages import (
    Ask,
    ChatRef,
    TurnRef,
    parent_of,
    read_answer,
    write_user_message,
)
from chat.core.outcomes import Look

_ask = msgspec.json.Decoder(Ask)


def started(chat: ChatRef, ref: TurnRef, user_message: bytes, offset: int = 0) -> Started:
    """The first event of a stream; b"" for a user message that is not known any more."""
    ids = TurnIds(ref.turn_id, chat.id, ref.user_message_id, ref.message_id)
    return Started(ids, offset, msgspec.Raw(user_message) if user_message else None)


def user_message_of(ref: TurnRef, look: Look) -> bytes:
    """What a turn answers, running or stored, by what was found of it; b"": nothing."""
    if look.running != ref:
        return look.user
    ask = _ask.decode(look.asked)
    parent_id = parent_of(ask, ref.index, look.newest_nonce)
    return write_user_message(ref, ask, began_ms=look.began_ms, parent_id=parent_id)


def ended_as_stored(message: bytes) -> Ended:
    """The last event of a turn that is known by its stored message only."""
    answer = read_answer(message)
    length = len(answer.content)
    if answer.status == "completed" or answer.status == "cancelled":
        return Ended(answer.status, length, message=msgspec.Raw(message))
    if answer.finish_reason == "error":
        return ended_in_error(UpstreamRefused(CUT), length, message)
    return Ended("interrupted", length, message=msgspec.Raw(message))


def ended_in_error(error: ChatkeepError, offset: int, message: bytes | None = None) -> Ended:
    """The last event of a turn that failed, with what is stored of it."""
    stored = None if message is None else msgspec.Raw(message)
    return Ended("failed", offset, message=stored, error=msgspec.Raw(error_json(error)))


def error_json(error: ChatkeepError) -> bytes:
    """An error as events and logs have it."""
    return msgspec.json.encode(error.body()["error"])
