"""What one document of the model API says: the next words of a stream, or more. Pure values."""

import msgspec

from chat.core.messages import Usage

MAX_TOKENS = 2**53 - 1


class Words(msgspec.Struct, frozen=True, gc=False):
    """What a usual chunk of a stream says: the next words, of the answer or the thinking."""

    text: str = ""
    reasoning: str = ""
    usage: Usage | None = None


class Chunk(Words, frozen=True, gc=False):
    """What any other chunk, or a whole completion, says. Texts may hold lone surrogates."""

    finish_reason: str | None = None
    error: str | None = None  # the reason, as it was found
    hint: str = ""  # words that are the reason, if nothing else follows
    calls_tools: bool = False
    tool_calls: object = None  # whole calls or pieces of calls, as they came
    is_whole: bool = False  # the text is all of the answer, not the next piece of it
    is_unread: bool = False  # JSON that cannot be read: perhaps words are missing
    done: bool = False


def sum_up(prompt: int, completion: int, total: int) -> Usage | None:
    """The third number follows from two of them; zeros are no count."""
    total = total or prompt + completion
    if prompt and not completion:
        completion = max(0, total - prompt)
    elif completion and not prompt:
        prompt = max(0, total - completion)
    return Usage(prompt, completion, total) if prompt or completion else None


def read_finish(value: object) -> str | None:
    """A finish reason; None when there is none yet."""
    if not value or (isinstance(value, str) and value.lower() in ("null", "none")):
        return None
    return value if isinstance(value, str) else "stop"
