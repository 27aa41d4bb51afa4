"""Builds a prompt from the history: the instructions, and the newest whole turns that fit. Pure.

Servers refuse a prompt with an empty message, or in which roles do not alternate. So an empty answer
is left out, and the user's messages before and after it become one.

A prompt that no longer fits is cut to three quarters, not turn by turn, so that the provider's
prefix cache stays warm over many turns; the index of the cut is stored with the chat.
"""

import msgspec

from chat.core.completions import PromptMessage, WireMessage, join
from chat.core.entries import Entry
from chat.core.errors import PromptTooLong
from chat.core.messages import Ask
from chat.core.replay import replay, wire_message, without_strays
from chat.core.speech import without_thinking

_BYTES_PER_TOKEN = 4
_BYTES_PER_MESSAGE = len('{"role":"assistant","content":},')
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ATTACHMENT = 1000
_TEXT_BEGINS = ord('"')
_MARKS_BEGIN = tuple(mark.encode()[0] for mark in "<[◁")
_MAX_BLANK_BYTES = 32

_GO_ON = msgspec.Raw(
    b'"Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."'
)


class Prompt(msgspec.Struct, frozen=True):
    """`start` is the index in the history of the oldest message in the prompt.

    `replayed_bytes`: what the messages from there on have as they were read; `size`: all contents.
    """

    messages: list[PromptMessage]
    start: int
    tokens: int
    replayed_bytes: int
    size: int


def build(
    system: str,
    history: list[bytes],
    new: msgspec.Raw,
    *,
    start: int,
    max_tokens: int,
    max_bytes: int,
) -> Prompt:
    """Build a prompt of texts; `history` holds stored messages, the first one at index `start`."""
    limits = PromptLimits(max_tokens, max_bytes)
    return build_from(
        instructions(system), history, [PromptMessage("user", new)], start=start, limits=limits
    )


class PromptLimits(msgspec.Struct, frozen=True):
    """The largest prompt: in tokens by estimate, and in bytes."""

    max_tokens: int
    max_bytes: int

    def check(self, tokens: int, size: int, what: str, param: str) -> None:
        """Raises PromptTooLong."""
        pairs = ((tokens, self.max_tokens, "tokens"), (size, self.max_bytes, "bytes"))
        for count, limit, unit in pairs:
            if count > limit:
                text = f"{what} have about {count} {unit}; the limit is {limit}."
                raise PromptTooLong(text, param=param)


def build_from(
    head: list[PromptMessage],
    history: list[bytes],
    new: list[PromptMessage],
    *,
    start: int,
    limits: PromptLimits,
) -> Prompt:
    """Build a prompt: the instructions, the stored messages that fit, the new ones.

    Raises PromptTooLong when the new messages and the instructions alone are over a limit.
    """
    fixed, fixed_bytes = (sum(map(size, [*head, *new])) for size in (estimate_tokens, _size))
    limits.check(fixed, fixed_bytes, "The message and instructions", "content")
    turns = replay(history)
    tokens, sizes = (
        [size(one[0]) if len(one) == 1 else sum(map(size, one)) for one in turns]
        for size in (estimate_tokens, _size)
    )
    max_tokens, max_bytes = limits.max_tokens, limits.max_bytes
    dropped = max(
        _fit(turns, tokens, max_tokens - fixed, max_tokens // 4),
        _fit(turns, sizes, max_bytes - fixed_bytes, max_bytes // 4),
        1 if turns and _is_answer(turns[0]) else 0,  # its question was not read
    )
    kept = [message for messages in turns[dropped:] for message in messages]
    messages = _alternate(without_strays([*kept, *new]))
    return Prompt(
        [*head, *messages],
        start + dropped,
        fixed + sum(tokens[dropped:]),
        sum(map(len, history[dropped:])),
        fixed_bytes + sum(sizes[dropped:]),
    )


def instructions(text: str) -> list[PromptMessage]:
    """The head of a prompt."""
    return [PromptMessage("system", msgspec.Raw(msgspec.json.encode(text)))] if text else []


def as_sent(
    head: list[PromptMessage],
    entries: list[Entry],
    history: list[bytes],
    *,
    start: int,
    limits: PromptLimits,
) -> Prompt:
    """A prompt that is the client's own; `history` is what it continues. Raises PromptTooLong."""
    messages = [*head, *map(wire_message, entries)]
    tokens, size = sum(map(estimate_tokens, messages)), sum(map(_size, messages))
    limits.check(tokens, size, "The messages", "messages")
    return Prompt(messages, start, tokens, sum(map(len, history)), size)


def go_on(messages: list[PromptMessage], text: str) -> list[PromptMessage]:
    """A prompt that asks the model to continue an answer that stopped at the length limit."""
    answer = PromptMessage("assistant", msgspec.Raw(msgspec.json.encode(text)))
    return [*messages, answer, PromptMessage("user", _GO_ON)]


def _alternate(messages: list[PromptMessage]) -> list[PromptMessage]:
    """Without empty answers, and with no two messages of one role in a row."""
    kept: list[PromptMessage] = []
    for message in messages:
        if isinstance(message, WireMessage):
            kept.append(message)
            continue
        if message.role == "assistant":
            content = memoryview(message.content)
            if content[1] in _MARKS_BEGIN:
                message = _without_thinking(message)
            if content.nbytes <= _MAX_BLANK_BYTES and _is_blank(message.content):
                continue
        if kept and kept[-1].role == message.role and not isinstance(kept[-1], WireMessage):
            message = PromptMessage(message.role, join(kept.pop().content, message.content))
        kept.append(message)
    return kept


def _without_thinking(message: PromptMessage) -> PromptMessage:
    """Older versions stored an answer with its thinking."""
    text = without_thinking(msgspec.json.decode(message.content))
    return PromptMessage(message.role, msgspec.Raw(msgspec.json.encode(text)))


def _is_blank(content: msgspec.Raw) -> bool:
    decoded = msgspec.json.decode(content)
    return not decoded or (isinstance(decoded, str) and decoded.isspace())


def _fit(turns: list[list[PromptMessage]], sizes: list[int], room: int, slack: int) -> int:
    """How many of the oldest messages to drop."""
    total = sum(sizes)
    if total <= room:
        return 0
    dropped = 0
    while dropped < len(turns) and (total > room - slack or _is_answer(turns[dropped])):
        total -= sizes[dropped]
        dropped += 1
    return dropped


def _size(message: PromptMessage) -> int:
    """Bytes of a message as the model is sent it."""
    if isinstance(message, WireMessage):
        return len(msgspec.json.encode(message.fields))
    return len(memoryview(message.content)) + _BYTES_PER_MESSAGE


def _is_answer(messages: list[PromptMessage]) -> bool:
    return len(messages) == 1 and messages[0].role == "assistant"


def estimate_text(text: str) -> int:
    """Tokens of an answer, by the same estimate."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def estimate_tokens(message: PromptMessage) -> int:
    """An estimate without a tokenizer: four bytes per token, a constant for other than text."""
    if isinstance(message, WireMessage) and not isinstance(message.fields.get("content"), list):
        return len(msgspec.json.encode(message.fields)) // _BYTES_PER_TOKEN + _TOKENS_PER_MESSAGE
    content = memoryview(message.content)
    if content[0] == _TEXT_BEGINS:
        return content.nbytes // _BYTES_PER_TOKEN + _TOKENS_PER_MESSAGE
    tokens = _TOKENS_PER_MESSAGE
    for part in msgspec.json.decode(content):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            tokens += len(text.encode()) // _BYTES_PER_TOKEN
        else:
            tokens += _TOKENS_PER_ATTACHMENT
    return tokens


def estimate_new(ask: Ask) -> int:
    """Tokens of what is new in the prompt of a turn."""
    return estimate_tokens(PromptMessage("user", ask.content)) + estimate_text(ask.system or "")
