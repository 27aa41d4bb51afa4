"""The first and the last event of a turn, as a producer and a reader tell them."""

import msgspec

from chat.core.answer import CUT
from chat.core.cursors import mark_of
from chat.core.errors import ChatkeepError, UpstreamRefused
from chat.core.events import Ended, Started, TurnIds
from chat.core.messages import (
    Ask,
    ChatRef,
    TurnRef,
    find_ref,
    id_of,
    read_answer,
    write_user_message,
)
from chat.core.outcomes import Look

_ask = msgspec.json.Decoder(Ask)


def started(chat: ChatRef, ref: TurnRef, user_message: bytes, offset: int = 0) -> Started:
    """The first event of a stream; `user_message` is b"" where nobody knows it any more."""
    ids = TurnIds(ref.turn_id, chat.id, ref.user_message_id, ref.message_id)
    return Started(ids, mark_of(ref), offset, msgspec.Raw(user_message) if user_message else None)


def running_message(look: Look) -> bytes:
    """The user's message that is being answered, as it will be stored; b"" when none is.

    `look` is at the newest message.
    """
    if look.running is None:
        return b""
    ask = _ask.decode(look.asked)
    parent_id = id_of(look.message) if look.message else None
    if ask.parent_id is not None:  # any message of a turn stands for the turn; or it is the root
        parent = find_ref(ask.parent_id)
        parent_id = TurnRef(parent.index | 1, parent.nonce).user_message_id if parent else None
    return write_user_message(look.running, ask, began_ms=look.began_ms, parent_id=parent_id)


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
