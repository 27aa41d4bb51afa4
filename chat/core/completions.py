"""Encodes requests to the model API, and decodes its answers. Protocol: OpenAI Chat Completions.

Decoding ignores unknown and odd fields: the server may be any OpenAI-compatible one.
"""

import json
import re

import msgspec

from chat.core.messages import Usage

DONE = b"[DONE]"
_MAX_ERROR_CHARACTERS = 500


class BrokenAnswer(Exception):
    """The upstream's answer does not follow the protocol."""


class PromptMessage(msgspec.Struct, frozen=True):
    """One message of a prompt; `content` is passed on as raw JSON."""

    role: str
    content: msgspec.Raw


class _Content(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Content | None = None
    message: _Content | None = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: object = None


class Part(msgspec.Struct, frozen=True):
    """The contents of one chunk of a stream, or of a whole completion."""

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

    `openai_itself`: its newer models refuse `max_tokens`; and it knows two fields that other servers
    might refuse (padding against traffic analysis and storage for 30 days: both turned off).
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


_decoder = msgspec.json.Decoder(_Completion)


def decode(data: bytes) -> Part:
    """Decode a chunk or a completion. Raises BrokenAnswer."""
    try:
        completion = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        completion = _decode_again(data)
    if not completion.choices:
        error = None if completion.error is None else describe_error(data, "")
        return Part("", None, completion.usage, error)
    choice = completion.choices[0]
    content = choice.delta or choice.message or _Content()
    text = content.content or content.refusal or ""
    return Part(text, choice.finish_reason, completion.usage, None)


def read_beginning(data: bytes) -> str:
    """The text of a completion as far as it has come; "" where there is none."""
    begins = re.search(rb'"content"\s*:\s*"', data)
    if not begins:
        return ""
    text = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+').match(data, begins.end())
    return _decode_text(text[0]) if text else ""


def _decode_text(raw: bytes) -> str:
    """A JSON string without its quotes; a character that is not whole is left out."""
    text = json.loads(b'"%b"' % raw.decode(errors="ignore").encode(), strict=False)
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _decode_again(data: bytes) -> _Completion:
    """Decode by the standard library, which accepts lone surrogates (half an emoji)."""
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return _decoder.decode(whole)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BrokenAnswer("the model API's answer is not readable") from error


def describe_error(body: bytes, secret: str) -> str:
    """The error message of the upstream, without anything that looks like a key."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    while isinstance(found, dict):
        found = found.get("error") or found.get("message") or found.get("detail")
    text = found if isinstance(found, str) else "no reason given"
    return redact(text, secret)


def redact(text: str, secret: str) -> str:
    """The text, shortened, without keys: OpenAI's 401 quotes part of the key, other servers all."""
    if secret:
        text = text.replace(secret, "***")
    return re.sub(r"\b(sk|pk|Bearer)[-_ ][\w*.~+/=-]{6,}", "***", text)[:_MAX_ERROR_CHARACTERS]
