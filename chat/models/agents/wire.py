"""The messages between the function and an agent: JSON with `id`, `message` (its kind) and `data`.

Protocol: that of ChatGPT-API-server, as its agents know it, plus deltas. `data` is a string; for
requests and responses it holds JSON once more. Agents may also send that object unwrapped.
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
    """The input is not one of these messages; the text says why."""


class Message(msgspec.Struct, frozen=True):
    """One message, not yet unwrapped."""

    id: str
    message: str
    data: object = ""
    error: object = ""


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a request. Old agents ignore the fields from `messages` on."""

    message_id: str
    conversation_id: str
    parent_id: str
    content: str
    messages: list[object] = msgspec.field(default_factory=list)
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None


class AgentAnswer(msgspec.Struct, frozen=True):
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
        raise BadMessage(
            "A message must be a JSON object with the strings id, message and data."
        ) from problem


def read_question(message: Message) -> Question:
    """Raises BadMessage."""
    return _unwrap(message, Question)


def read_answer(message: Message) -> AgentAnswer:
    """Raises BadMessage."""
    return _unwrap(message, AgentAnswer)


def _unwrap(message: Message, kind: type[_T]) -> _T:
    try:
        if isinstance(message.data, str):
            return msgspec.json.decode(message.data, type=kind)
        return msgspec.convert(message.data, kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise BadMessage(f"The data of a {message.message} cannot be read.") from problem


def text_of(message: Message) -> str:
    """The text of a delta or an error; "" when there is none."""
    texts = (message.data, message.error)
    return next((text for text in texts if text and isinstance(text, str)), "")


def write(id: str, message: str, data: str = "", **more: str) -> str:
    """A message as JSON text."""
    return msgspec.json.encode({"id": id, "message": message, "data": data, **more}).decode()


def write_answer(content: str, response_id: str, conversation_id: str) -> str:
    """The data of a response."""
    return msgspec.json.encode(AgentAnswer(content, response_id, conversation_id)).decode()


def is_agent_id(text: str) -> bool:
    """Whether an agent may call itself that."""
    return bool(_AGENT_ID.fullmatch(text))
