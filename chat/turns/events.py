"""The first and the last event of a turn, as a producer and a reader tell them."""

import msgspec

from chat.core.answer import CUT
from chat.core.errors import ChatkeepError, UpstreamRefused
from chat.core.events import Ended, Started, TurnIds
from chat.core.messages import ChatRef, TurnRef, read_answer


def started(chat: ChatRef, ref: TurnRef, offset: int = 0) -> Started:
    """The first event of a stream."""
    ids = TurnIds(ref.turn_id, chat.id, ref.user_message_id, ref.message_id)
    return Started(ids, offset)


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
