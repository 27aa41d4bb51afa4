"""Builds a prompt from the history: the instructions, and the newest whole turns that fit. Pure.

Servers refuse a prompt with an empty message, or in which roles do not alternate. So an empty answer
is left out, and the user's messages before and after it become one.

A prompt that no longer fits is cut to three quarters, not turn by turn, so that the provider's
prefix cache stays warm over many turns; the index of the cut is stored with the chat.
"""

import msgspec

from chat.core.completions import PromptMessage
from chat.core.entries import Entry
from chat.core.errors import PromptTooLong
from chat.core.replay import WireMessage, replay, wire_message, without_strays
from chat.core.speech import without_thinking

_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ATTACHMENT = 1000
_TEXT_BEGINS = ord('"')
_MARKS_BEGIN = tuple(mark.encode()[0] for mark in "<[◁")
_MAX_BLANK_BYTES = 32

_GO_ON = msgspec.Raw(
    b'"Go on exactly where you stopped, in the middle of a word if need be. Repeat nothing."'
)


class Prompt(msgspec.Struct, frozen=True):
    """`start` is the index in the history of the oldest message in the prompt."""

    messages: list[PromptMessage]
    start: int
    tokens: int


def build(
    system: str, history: list[bytes], new: msgspec.Raw, *, start: int, max_tokens: int
) -> Prompt:
    """Build a prompt of texts; `history` holds stored messages, the first one at index `start`."""
    head, question = instructions(system), PromptMessage("user", new)
    return build_from(head, history, [question], start=start, max_tokens=max_tokens)


def build_from(
    head: list[PromptMessage],
    history: list[bytes],
    new: list[PromptMessage],
    *,
    start: int,
    max_tokens: int,
) -> Prompt:
    """Build a prompt: the instructions, the stored messages that fit, the new ones.

    Raises PromptTooLong.
    """
    fixed = sum(estimate_tokens(message) for message in [*head, *new])
    if fixed > max_tokens:
        raise PromptTooLong(
            f"The message and instructions have about {fixed} tokens; the limit is {max_tokens}.",
            param="content",
        )
    turns = replay(history)
    dropped, replayed = _fit(turns, max_tokens - fixed, max_tokens // 4)
    kept = [message for messages in turns[dropped:] for message in messages]
    messages = _alternate(without_strays([*kept, *new]))
    return Prompt([*head, *messages], start + dropped, fixed + replayed)


def instructions(text: str) -> list[PromptMessage]:
    """The head of a prompt."""
    return [PromptMessage("system", msgspec.Raw(msgspec.json.encode(text)))] if text else []


def as_sent(
    head: list[PromptMessage], entries: list[Entry], *, start: int, max_tokens: int
) -> Prompt:
    """A prompt that is the client's own. Raises PromptTooLong."""
    messages = [*head, *map(wire_message, entries)]
    tokens = sum(map(estimate_tokens, messages))
    if tokens > max_tokens:
        raise PromptTooLong(
            f"The messages have about {tokens} tokens; the limit is {max_tokens}.", param="messages"
        )
    return Prompt(messages, start, tokens)


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
            message = _without_thinking(message)
            if _is_blank(message.content):
                continue
        if kept and kept[-1].role == message.role and not isinstance(kept[-1], WireMessage):
            message = PromptMessage(message.role, _join(kept.pop().content, message.content))
        kept.append(message)
    return kept


def _without_thinking(message: PromptMessage) -> PromptMessage:
    """Older versions stored an answer with its thinking."""
    if memoryview(message.content)[1] not in _MARKS_BEGIN:
        return message
    text = without_thinking(msgspec.json.decode(message.content))
    return PromptMessage(message.role, msgspec.Raw(msgspec.json.encode(text)))


def _is_blank(content: msgspec.Raw) -> bool:
    if memoryview(content).nbytes > _MAX_BLANK_BYTES:
        return False
    decoded = msgspec.json.decode(content)
    return not decoded or (isinstance(decoded, str) and decoded.isspace())


def _join(first: msgspec.Raw, second: msgspec.Raw) -> msgspec.Raw:
    """Two contents as one: texts as paragraphs, anything else as parts."""
    contents = [msgspec.json.decode(content) for content in (first, second)]
    if all(isinstance(content, str) for content in contents):
        return msgspec.Raw(msgspec.json.encode("\n\n".join(contents)))
    parts = [part for content in contents for part in _as_parts(content)]
    return msgspec.Raw(msgspec.json.encode(parts))


def _as_parts(content: str | list[object]) -> list[object]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _fit(turns: list[list[PromptMessage]], room: int, slack: int) -> tuple[int, int]:
    """How many of the oldest stored messages to drop, and how many tokens stay."""
    sizes = [sum(map(estimate_tokens, messages)) for messages in turns]
    tokens = sum(sizes)
    if tokens <= room:
        return 0, tokens
    dropped = 0
    while dropped < len(turns) and (tokens > room - slack or _is_answer(turns[dropped])):
        tokens -= sizes[dropped]
        dropped += 1
    return dropped, tokens


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
