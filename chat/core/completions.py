"""Encodes requests to the model API. Protocol: OpenAI Chat Completions."""

from typing import Any

import msgspec


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt; `content` is passed on as raw JSON."""

    role: str
    content: msgspec.Raw


def encode_request(
    model: str,
    messages: list[Any],
    *,
    stream: bool,
    temperature: float | None,
    max_tokens: int | None,
    openai_itself: bool,
    params: dict[str, Any] | None = None,
) -> bytes:
    """The body of a POST to /chat/completions.

    `openai_itself`: its newer models refuse `max_tokens`; and it knows two fields that other servers
    might refuse (padding against traffic analysis and storage for 30 days: both turned off).
    """
    body: dict[str, object] = {"model": model, "messages": messages, **(params or {})}
    if temperature is not None:
        body["temperature"] = temperature
    if max_tokens is not None:
        body["max_completion_tokens" if openai_itself else "max_tokens"] = max_tokens
    if openai_itself:
        body["store"] = False
    if stream:
        options = {"include_usage": True}
        body["stream"] = True
        body["stream_options"] = options | ({"include_obfuscation": False} if openai_itself else {})
    return msgspec.json.encode(body)
