"""A JSON document of the model API -> what it says. Protocol: OpenAI Chat Completions.

What has the usual shape is decoded in one step: at best as the next words of a stream, else as the
rest of what a well-behaved server sends. Whatever is odd in the least is left to `lenient_chunks`.
"""

from typing import Annotated, Any

import msgspec

from chat.core.chunks import MAX_TOKENS, Chunk, Words, read_finish, sum_up
from chat.core.lenient_chunks import decode_leniently
from chat.core.messages import Usage
from chat.core.refusals import BROKEN_OFF

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _TextDelta(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    error: object = None


class _Counts(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    total_tokens: _Tokens = 0


class _Choice(msgspec.Struct, frozen=True, gc=False):
    delta: _TextDelta | None = None
    finish_reason: str | None = None
    usage: _Counts | None = None
    error: object = None


class _Wire(msgspec.Struct, frozen=True, gc=False):
    choices: list[_Choice] = []
    usage: _Counts | None = None
    error: object = None


class _FullDelta(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: object = None
    error: object = None
    function_call: object = None
    thinking: object = None
    thinking_blocks: object = None
    reasoning_details: object = None


class _UsualChoice(msgspec.Struct, frozen=True, gc=False):
    delta: _FullDelta | None = None
    message: _FullDelta | None = None
    finish_reason: str | None = None
    usage: _Counts | None = None
    text: object = None
    error: object = None


class _Usual(msgspec.Struct, frozen=True, gc=False):
    choices: list[_UsualChoice]
    usage: _Counts | None = None
    object: str = ""
    error: Any = None
    errors: Any = None
    detail: Any = None
    message: Any = None
    msg: Any = None
    code: Any = None
    type: Any = None
    status: Any = None
    success: Any = None
    base_resp: Any = None
    x_groq: Any = None


_decode_words = msgspec.json.Decoder(_Wire).decode
_decode_usual = msgspec.json.Decoder(_Usual).decode
_ODD = (msgspec.MsgspecError, IndexError, ValueError, RecursionError)
_CLEAN = (None,) * 11


def decode(data: bytes) -> Words:
    """Read a chunk or a completion: Words, or a Chunk; raises nothing."""
    try:
        wire = _decode_words(data)
        choice = wire.choices[0]
        words = choice.delta
    except _ODD:
        return _decode_chunk(data)
    if words is None or choice.finish_reason or choice.error or wire.error or words.error:
        return _decode_chunk(data)
    reasoning = words.reasoning_content or words.reasoning or ""
    if not (words.content or reasoning):
        return _decode_chunk(data)
    return Words(words.content or "", reasoning, _as_usage(wire.usage or choice.usage))


def _decode_chunk(data: bytes) -> Chunk:
    return _read_usual(data) or decode_leniently(data)


def _read_usual(data: bytes) -> Chunk | None:
    """The role, the end, the usage of a stream, or a whole completion; None for what is odd."""
    try:
        wire = _decode_usual(data)
    except _ODD:
        return None
    if _is_suspicious(wire):
        return None
    usage = _as_usage(wire.usage)
    if wire.usage and not usage:  # zeros, or other names
        return None
    if not wire.choices:
        return Chunk(usage=usage) if usage else None
    choice = wire.choices[0]
    words = choice.delta or choice.message
    if words is None or (choice.delta and choice.message) or _hides_something(choice, words):
        return None
    return Chunk(
        text=words.content or words.refusal or "",
        reasoning=words.reasoning_content or words.reasoning or "",
        usage=usage or _as_usage(choice.usage),
        finish_reason=read_finish(choice.finish_reason),
        calls_tools=bool(words.tool_calls),
        tool_calls=words.tool_calls,
        is_whole=choice.delta is None,
    )


def _is_suspicious(wire: _Usual) -> bool:
    """Whether there may be an error."""
    fields = (wire.error, wire.errors, wire.detail, wire.message, wire.msg, wire.code, wire.type)
    return (*fields, wire.status, wire.success, wire.base_resp, wire.x_groq) != _CLEAN or (
        wire.object == "error"
    )


def _hides_something(choice: _UsualChoice, words: _FullDelta) -> bool:
    """Whether there may be an error, or words in another place."""
    if choice.error or words.error or choice.text or words.function_call:
        return True
    if words.thinking or words.thinking_blocks or words.reasoning_details:
        return True
    finish = choice.finish_reason
    return finish is not None and finish.lower() in BROKEN_OFF


def _as_usage(counts: _Counts | None) -> Usage | None:
    if counts is None:
        return None
    return sum_up(counts.prompt_tokens, counts.completion_tokens, counts.total_tokens)
