"""The messages between the function and an agent: JSON with `id`, `message` (what it is) and `data`.

Protocol: that of ChatGPT-API-server, as its agents know it, with deltas beside it. `data` is text, and
what is in it, if anything is, is JSON once more; an agent that sends it unwrapped is understood.
"""

import re
from typing import TypeVar

import msgspec

CONNECTION = "Connection id"
PING = "ping"
PONG = "pong"
REQUEST = "ChatGptRequest"
DELTA = "ChatGptDelta"
RESPONSE = "ChatGptResponse"
ERROR = "error"

_T = TypeVar("_T")
_AGENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class BadMessage(Exception):
    """What came is none of these messages; the text says why."""


class Message(msgspec.Struct, frozen=True):
    """One message, as it came."""

    id: str
    message: str
    data: object = ""
    error: object = ""


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a request. Everything from `messages` on is beyond what old agents know."""

    message_id: str
    conversation_id: str
    parent_id: str
    content: str
    messages: list[object] = msgspec.field(default_factory=list)
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """The data of a response."""

    content: str
    response_id: str = ""
    conversation_id: str = ""


_message = msgspec.json.Decoder(Message)


def read(text: str | bytes) -> Message:
    """Raises BadMessage."""
    try:
        return _message.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise BadMessage("A message is JSON with the texts id, message and data.") from problem


def read_question(message: Message) -> Question:
    """Raises BadMessage."""
    return _unwrap(message, Question)


def read_answer(message: Message) -> Answer:
    """Raises BadMessage."""
    return _unwrap(message, Answer)


def _unwrap(message: Message, kind: type[_T]) -> _T:
    try:
        if isinstance(message.data, str):
            return msgspec.json.decode(message.data, type=kind)
        return msgspec.convert(message.data, kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise BadMessage(f"The data of a {message.message} cannot be read.") from problem


def text_of(message: Message) -> str:
    """What a delta or an error says."""
    return next(
        (said for said in (message.data, message.error) if said and isinstance(said, str)), ""
    )


def write(id: str, message: str, data: str = "", **more: str) -> str:
    """A message as the protocol has it."""
    return msgspec.json.encode({"id": id, "message": message, "data": data, **more}).decode()


def write_answer(content: str, response_id: str, conversation_id: str) -> str:
    """The data of a response."""
    return msgspec.json.encode(Answer(content, response_id, conversation_id)).decode()


def is_agent_id(text: str) -> bool:
    """Whether an agent may call itself that."""
    return bool(_AGENT_ID.fullmatch(text))
