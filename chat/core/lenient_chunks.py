"""A JSON document of the model API, however odd -> what it says.

Errors are looked for first, then words, wherever servers put them. What is not needed may be
anything.
"""

import math
import re

from chat.core.chunks import MAX_TOKENS, Chunk, read_finish, sum_up
from chat.core.lenient_json import decode_all
from chat.core.messages import Usage
from chat.core.refusals import find_error, find_hint

_THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
_TEXTS = ("text", "content", "value", "refusal", "thinking", "reasoning", "summary", "parts")
_MAX_DEPTH = 8
_ERROR_BEGINS = re.compile(
    r"\W*(?:error|exception|internal server error|traceback)\b", re.IGNORECASE
)


def decode_leniently(data: bytes) -> Chunk:
    """Read a chunk or a completion; raises nothing."""
    found = decode_all(data)
    chunk = Chunk(done=found.done)
    for value in found.values:
        for item in value if isinstance(value, list) else [value]:
            chunk = _join(chunk, _read(item))
    return _join(chunk, _read_rest(found.rest)) if found.rest else chunk


def _read_rest(text: str) -> Chunk:
    """What is not JSON: broken JSON, or plain words."""
    words = text.strip()
    if words.upper().startswith("DONE"):
        return Chunk(done=True)
    if _ERROR_BEGINS.match(words):
        return Chunk(error=find_hint(words))
    if words.startswith(("{", "[")):
        return Chunk(is_unread=True)
    return Chunk(hint=find_hint(words))


def _join(first: Chunk, second: Chunk) -> Chunk:
    """Two values in one document."""
    return Chunk(
        text=first.text + second.text,
        reasoning=first.reasoning + second.reasoning,
        finish_reason=second.finish_reason or first.finish_reason,
        usage=second.usage or first.usage,
        error=second.error if first.error is None else first.error,
        hint=first.hint or second.hint,
        calls_tools=first.calls_tools or second.calls_tools,
        tool_calls=_join_lists(first.tool_calls, second.tool_calls),
        is_whole=first.is_whole or second.is_whole,
        is_unread=first.is_unread or second.is_unread,
        done=first.done or second.done,
    )


def _read(value: object) -> Chunk:
    if value == "[DONE]":
        return Chunk(done=True)
    if not isinstance(value, dict):
        return Chunk(hint=find_hint(value))
    value = _unwrap(value)
    choice = _first_choice(value.get("choices"))
    words, is_whole = _find_words(choice)
    text = _plain(words.get("content")) or _plain(words.get("refusal"))
    thinking = (_thinking(words.get(name)) for name in _THINKING)
    parts = _thinking_parts(words.get("content"))
    error = find_error(value)
    return Chunk(
        text=text or _plain(choice.get("text")),
        reasoning=next((thought for thought in thinking if thought), parts),
        finish_reason=None if error is not None else read_finish(choice.get("finish_reason")),
        usage=_find_usage(value, choice),
        error=error,
        hint=find_hint(value),
        calls_tools=bool(words.get("tool_calls") or words.get("function_call")),
        tool_calls=_find_calls(words),
        is_whole=is_whole,
    )


def _unwrap(value: dict[str, object]) -> dict[str, object]:
    """Some gateways put the whole answer into a field of theirs."""
    inner = (value.get(name) for name in ("result", "data", "response") if "choices" not in value)
    return next((found for found in inner if isinstance(found, dict) and "choices" in found), value)


def _first_choice(choices: object) -> dict[str, object]:
    if isinstance(choices, dict):
        return choices
    found = choices if isinstance(choices, list) else []
    return next((choice for choice in found if isinstance(choice, dict)), {})


def _find_words(choice: dict[str, object]) -> tuple[dict[str, object], bool]:
    """What is said, and whether it is all of the answer: some repeat that beside the last delta."""
    delta = _as_words(choice.get("delta"))
    if any(delta.get(name) for name in ("content", "refusal", "tool_calls", *_THINKING)):
        return delta, False
    message = _as_words(choice.get("message"))
    return message or delta, bool(message)


def _as_words(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    return {"content": value} if isinstance(value, str | list) and value else {}


def _find_calls(words: dict[str, object]) -> object:
    """Calls as they came; one in the old form becomes a list of one."""
    old = words.get("function_call")
    return words.get("tool_calls") or ([{"function": old}] if old else None)


def _join_lists(first: object, second: object) -> object:
    both = [
        *(first if isinstance(first, list) else []),
        *(second if isinstance(second, list) else []),
    ]
    return both or None


def _plain(value: object, depth: int = 0) -> str:
    """The text of some content: a text, parts, or (from what parses too much) a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, list):
        return "".join(_plain(part, depth + 1) for part in value)
    if isinstance(value, dict) and not _is_thinking(value):
        texts = (_plain(value[name], depth + 1) for name in _TEXTS if _holds_text(value, name))
        return next((text for text in texts if text), "")
    return ""


def _thinking(value: object, depth: int = 0) -> str:
    """The text of some thinking, whatever it is wrapped in."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth <= _MAX_DEPTH:
        return "".join(_thinking(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth <= _MAX_DEPTH:
        texts = (_thinking(value.get(name), depth + 1) for name in reversed(_TEXTS))
        return next((text for text in texts if text), "")
    return ""


def _thinking_parts(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    return "".join(_thinking(p) for p in parts if isinstance(p, dict) and _is_thinking(p))


def _holds_text(part: dict[str, object], name: str) -> bool:
    return isinstance(part.get(name), str | list | dict)


def _is_thinking(part: dict[str, object]) -> bool:
    kind = part.get("type")
    return part.get("thought") is True or (
        isinstance(kind, str) and ("think" in kind or "reasoning" in kind)
    )


def _find_usage(value: dict[str, object], choice: dict[str, object]) -> Usage | None:
    groq = value.get("x_groq")
    places = [value, choice, groq if isinstance(groq, dict) else {}]
    found = (_read_usage(place.get("usage")) for place in places)
    return next((usage for usage in found if usage), None)


def _read_usage(value: object) -> Usage | None:
    """Tokens as a server counted them; None when it did not."""
    if not isinstance(value, dict):
        return None
    prompt = _count(value, "prompt_tokens", "input_tokens")
    completion = _count(value, "completion_tokens", "output_tokens")
    return sum_up(prompt, completion, _count(value, "total_tokens"))


def _count(value: dict[str, object], *names: str) -> int:
    return next((count for name in names if (count := _number(value.get(name)))), 0)


def _number(value: object) -> int:
    """A count, also from a text or a float."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return 0
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 0
    return int(number) if math.isfinite(number) and 0 < number <= MAX_TOKENS else 0
