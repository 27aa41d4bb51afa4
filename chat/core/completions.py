"""What the model API is asked. Protocol: OpenAI Chat Completions."""

import msgspec


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt; `content` is passed on as the JSON it is."""

    role: str
    content: msgspec.Raw


def encode_request(
    model: str,
    messages: list[PromptMessage],
    *,
    stream: bool,
    temperature: float | None,
    max_tokens: int | None,
    openai_itself: bool,
) -> bytes:
    """The body of a POST to /chat/completions.

    `openai_itself`: its newer models refuse `max_tokens`, and it knows fields that other servers
    might refuse in turn (padding against traffic analysis, 30 days of storage: both off).
    """
    body: dict[str, object] = {"model": model, "messages": messages}
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
