"""Encodes requests to the model API. Protocol: OpenAI Chat Completions."""

from collections.abc import Sequence
from typing import Any

import msgspec

from chat.core.quirks import Quirks


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt; `content` is passed on as raw JSON."""

    role: str
    content: msgspec.Raw


class WireMessage(PromptMessage, frozen=True):
    """A message with other fields than role and content; `fields` are all of it."""

    fields: dict[str, Any]


def written(messages: Sequence[PromptMessage]) -> list[Any]:
    """The messages as they are sent and shown."""
    return [m.fields if isinstance(m, WireMessage) else m for m in messages]


class ChatRequest(msgspec.Struct, frozen=True):
    """What a model is asked."""

    model: str
    messages: list[PromptMessage]
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    params: dict[str, Any] = {}


def encode_request(request: ChatRequest, quirks: Quirks) -> bytes:
    """The body of a POST to /chat/completions.

    OpenAI itself is asked for no padding against traffic analysis and no storage for 30 days.
    """
    body: dict[str, object] = {
        "model": request.model,
        "messages": written(_in_roles(request.messages, quirks)),
        **request.params,
    }
    if request.temperature is not None and quirks.temperature:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[quirks.max_tokens] = request.max_tokens
    if quirks.own_options:
        body["store"] = False
    if request.stream:
        body["stream"] = True
        options = {"include_usage": True} if quirks.usage else {}
        if options := options | ({"include_obfuscation": False} if quirks.own_options else {}):
            body["stream_options"] = options
    return msgspec.json.encode(body)


def _in_roles(messages: list[PromptMessage], quirks: Quirks) -> list[PromptMessage]:
    """The messages, with the instructions in the role that this model takes them in."""
    if quirks.system_role == "system" or not messages or messages[0].role != "system":
        return messages
    instructions, *rest = messages
    if quirks.system_role == "developer":
        return [PromptMessage("developer", instructions.content), *rest]
    if not rest or rest[0].role != "user":
        return [PromptMessage("user", instructions.content), *rest]
    # A second user message in a row would be refused as well.
    return [PromptMessage("user", join(instructions.content, rest[0].content)), *rest[1:]]


def join(first: msgspec.Raw, second: msgspec.Raw) -> msgspec.Raw:
    """Two contents as one: texts as paragraphs, anything else as parts."""
    contents = [msgspec.json.decode(content) for content in (first, second)]
    if all(isinstance(content, str) for content in contents):
        return msgspec.Raw(msgspec.json.encode("\n\n".join(contents)))
    parts = [part for content in contents for part in _as_parts(content)]
    return msgspec.Raw(msgspec.json.encode(parts))


def _as_parts(content: str | list[object]) -> list[object]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
