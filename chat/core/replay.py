"""Stored messages, and entries from clients, as messages of a prompt. Pure.

What a client sent goes to the model as it came. Of what is stored, no call goes without its result,
and no result without its call: servers refuse such a prompt. A call is left alone when its turn was
the last and the user went on without a result, a result when its call no longer fits the prompt.
"""

import msgspec

from chat.core.completions import PromptMessage, WireMessage
from chat.core.entries import Entry, answer_entry


class _ReplayedMessage(msgspec.Struct, frozen=True):
    role: str
    content: msgspec.Raw
    messages: list[Entry] | None = None
    tool_calls: list[Entry] = []
    reasoning: str = ""


_stored = msgspec.json.Decoder(list[_ReplayedMessage])
_plain = msgspec.json.Decoder(list[PromptMessage])


def replay(history: list[bytes]) -> list[list[PromptMessage]]:
    """The messages of a prompt that each stored message makes: one, but for those of a tool loop."""
    joined = b"[%b]" % b",".join(history)
    # In a text these names have their quotes escaped, so that they are not found there.
    if b'"messages":' in joined or b'"tool_calls":' in joined:
        return [*map(_replay, _stored.decode(joined))]
    return [[message] for message in _plain.decode(joined)]


def _replay(stored: _ReplayedMessage) -> list[PromptMessage]:
    if stored.messages is not None:
        return [wire_message(entry) for entry in stored.messages if entry]
    if stored.tool_calls:
        text = msgspec.json.decode(stored.content)
        return [wire_message(answer_entry(text, stored.tool_calls, stored.reasoning))]
    return [PromptMessage(stored.role, stored.content)]


def wire_message(entry: Entry) -> WireMessage:
    """A message as its client wrote it."""
    content = msgspec.Raw(msgspec.json.encode(entry.get("content")))
    return WireMessage(str(entry.get("role", "user")), content, entry)


def without_strays(messages: list[PromptMessage]) -> list[PromptMessage]:
    """Without calls that no result follows, and results that follow no call."""
    kept: list[PromptMessage] = []
    open_calls: set[object] = set()
    for at, message in enumerate(messages):
        if message.role == "tool" and isinstance(message, WireMessage):
            call_id = message.fields.get("tool_call_id")
            if call_id in open_calls:
                open_calls.discard(call_id)
                kept.append(message)
            continue
        open_calls = set()
        if isinstance(message, WireMessage) and message.fields.get("tool_calls"):
            answered = _results_after(messages, at)
            paired = _with_calls(message, answered)
            if paired is None:
                continue
            message, open_calls = paired, answered
        kept.append(message)
    return kept


def _results_after(messages: list[PromptMessage], at: int) -> set[object]:
    found: set[object] = set()
    for message in messages[at + 1 :]:
        if message.role != "tool" or not isinstance(message, WireMessage):
            break
        found.add(message.fields.get("tool_call_id"))
    calls = messages[at]
    assert isinstance(calls, WireMessage)
    return found & {call.get("id") for call in calls.fields["tool_calls"]}


def _with_calls(message: WireMessage, answered: set[object]) -> WireMessage | None:
    """The answer with the calls that have a result; None if nothing is left of it."""
    calls = [call for call in message.fields["tool_calls"] if call.get("id") in answered]
    if len(calls) == len(message.fields["tool_calls"]):
        return message
    if calls:
        return wire_message(message.fields | {"tool_calls": calls})
    content = message.fields.get("content")
    rest = {key: value for key, value in message.fields.items() if key != "tool_calls"}
    return wire_message(rest) if content else None
