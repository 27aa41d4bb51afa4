"""The wire format of the model API, both ways. Protocol: OpenAI Chat Completions.

Decoding is lenient in what does not matter: any OpenAI-compatible server may be at the other end.
"""

import json
import re

import msgspec

from chat.core.messages import Usage

DONE = b"[DONE]"
_ERROR_TEXT_MOST = 500


class BrokenAnswer(Exception):
    """The upstream's answer is not what the protocol says."""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt; `content` is passed on as the JSON it is."""

    role: str
    content: msgspec.Raw


class _Words(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Words | None = None
    message: _Words | None = None
    finish_reason: str | None = None


class _Wire(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: object = None


class Part(msgspec.Struct, frozen=True):
    """What one chunk of a stream, or a whole completion, says."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    error: str | None


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


_wire = msgspec.json.Decoder(_Wire)


def decode(data: bytes) -> Part:
    """Read a chunk or a completion; raises BrokenAnswer."""
    try:
        wire = _wire.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        wire = _decode_again(data)
    if not wire.choices:
        error = None if wire.error is None else describe_error(data, "")
        return Part("", None, wire.usage, error)
    choice = wire.choices[0]
    words = choice.delta or choice.message or _Words()
    return Part(words.content or words.refusal or "", choice.finish_reason, wire.usage, None)


def _decode_again(data: bytes) -> _Wire:
    """Half an emoji (a lone surrogate) is no JSON text to msgspec; the standard library reads it."""
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return _wire.decode(whole)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BrokenAnswer("the model API's answer is not readable") from error


def describe_error(body: bytes, secret: str) -> str:
    """The upstream's own words about what went wrong, without anything that looks like a key."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    while isinstance(found, dict):
        found = found.get("error") or found.get("message") or found.get("detail")
    text = found if isinstance(found, str) else "no reason given"
    return redact(text, secret)


def redact(text: str, secret: str) -> str:
    """The beginning of it, without keys: OpenAI's 401 quotes the key, in part; other servers, whole."""
    if secret:
        text = text.replace(secret, "***")
    return re.sub(r"\b(sk|pk|Bearer)[-_ ][\w*.~+/=-]{6,}", "***", text)[:_ERROR_TEXT_MOST]
