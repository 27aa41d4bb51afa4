"""The values of a chat: messages, usage, requests for turns, and the ids of a turn.

Stored messages are JSON exactly as clients see them, so that the history is answered, and sent to
the model, without being decoded.
"""

import datetime
from typing import Any, Literal

import msgspec

from chat.core.turn_ref import TurnRef as TurnRef
from chat.core.turn_ref import find_ref as find_ref
from chat.core.turn_ref import new_nonce as new_nonce

Status = Literal["completed", "cancelled", "incomplete"]
WhenBusy = Literal["enqueue", "reject", "interrupt", "rollback"]


class ChatRef(msgspec.Struct, frozen=True):
    """One chat of one owner."""

    owner: str
    id: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the model API counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
        )


class UserMessage(msgspec.Struct, frozen=True):
    """A user's message; `content` is a JSON string, or a JSON list of content parts."""

    id: str
    role: str
    content: msgspec.Raw
    created_at: str
    parent_id: str | None
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    messages: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET  # all that the turn brought
    response: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET  # what a response repeats


class AssistantMessage(msgspec.Struct, frozen=True):
    """The model's answer.

    `provider`: the host that answered instead of OPENAI_BASE_URL's; `reasoning`: what the model
    thought, with KEEP_REASONING.
    """

    id: str
    role: str
    content: str
    created_at: str
    parent_id: str
    model: str
    finish_reason: str | None
    status: Status
    usage: Usage | None
    chat_id: str
    turn_id: str
    tool_calls: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    provider: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET


class Chat(msgspec.Struct, frozen=True):
    """A chat as its owner sees it, without messages; lists leave out `running_message`."""

    id: str
    title: str | None
    created_at: str
    updated_at: str
    message_count: int
    model: str | None
    system: str | None
    metadata: msgspec.Raw
    usage: Usage
    active_turn: str | None
    running_message: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET


class Repeat(msgspec.Struct, frozen=True):
    """An idempotency key and the body it came with, as keyed fingerprints (`Vault.fingerprint`).

    `field` is "" without a key: then only the newest turn of the chat may be the same.
    """

    field: str
    body_hash: str
    look_up: bool


class Ask(msgspec.Struct, frozen=True):
    """A client's request for a turn, in any dialect.

    Redis keeps it beside the running turn, so that any instance can end a turn whose own has died.
    `if_match`: the chat must have this ETag; `must_exist`: the chat must exist already;
    `has_waited`: for another turn; `title`: for a chat that has none; `prefers_agents`: use a connected
    agent, whatever the model; `reasoning`: stream what the model thinks, too; `params`: others of the
    model; `messages`: all that the turn brings, where `content` is not all; `response`: what a response
    repeats of its request; `openai`: by the OpenAI API; `stored`: false if the turn leaves nothing.
    """

    content: msgspec.Raw
    stream: bool = False
    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    parent_id: str | None = None
    when_busy: WhenBusy = "enqueue"
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    repeat: Repeat | None = None
    if_match: str = ""
    must_exist: bool = False
    has_waited: bool = False
    autocontinue: bool = False
    title: str | None = None
    prefers_agents: bool = False
    reasoning: bool = False
    params: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    messages: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    response: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    openai: bool = False
    stored: bool = True


def plain_text(content: msgspec.Raw) -> str:
    """The text of a user message, without images and other parts."""
    decoded = msgspec.json.decode(content)
    if isinstance(decoded, str):
        return decoded
    return "\n".join(part["text"] for part in decoded if part["type"] == "text")


def etag(mark: str, revision: int) -> str:
    """The ETag of a chat, without quotes; its mark is made with it, "" where there is no chat."""
    return f"{mark}.{revision}" if mark else "0"


def write_user_message(ref: TurnRef, ask: Ask, *, began_ms: int, parent_id: str | None) -> bytes:
    """A turn's user message as it is stored."""
    return msgspec.json.encode(
        UserMessage(
            id=ref.user_message_id,
            role="user",
            content=ask.content,
            created_at=timestamp(began_ms),
            parent_id=parent_id,
            metadata=ask.metadata,
            messages=ask.messages,
            response=ask.response,
        )
    )


def write_assistant_message(
    ref: TurnRef,
    chat_id: str,
    text: str,
    *,
    model: str,
    status: Status,
    now_ms: int,
    finish_reason: str | None = None,
    usage: Usage | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    provider: str = "",
    reasoning: str = "",
) -> bytes:
    """A turn's answer as it is stored."""
    return msgspec.json.encode(
        AssistantMessage(
            id=ref.message_id,
            role="assistant",
            content=text,
            created_at=timestamp(now_ms),
            parent_id=ref.user_message_id,
            model=model,
            finish_reason=finish_reason,
            status=status,
            usage=usage,
            chat_id=chat_id,
            turn_id=ref.turn_id,
            tool_calls=tool_calls or msgspec.UNSET,
            provider=provider or msgspec.UNSET,
            reasoning=reasoning or msgspec.UNSET,
        )
    )


def read_message(message: bytes) -> UserMessage | AssistantMessage:
    """A stored message."""
    if _with_role.decode(message).role == "user":
        return _user_message.decode(message)
    return _answer.decode(message)


def read_answer(message: bytes) -> AssistantMessage:
    """A stored assistant's message."""
    return _answer.decode(message)


class _WithRole(msgspec.Struct, frozen=True):
    role: str


_with_role = msgspec.json.Decoder(_WithRole)
_user_message = msgspec.json.Decoder(UserMessage)
_answer = msgspec.json.Decoder(AssistantMessage)


class _WithId(msgspec.Struct, frozen=True):
    id: str


_with_id = msgspec.json.Decoder(_WithId)


def id_of(message: bytes) -> str:
    """The id of a stored message."""
    return _with_id.decode(message).id


def timestamp(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-21T05:16:00.123Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment.isoformat()[:19]}.{rest:03d}Z"
