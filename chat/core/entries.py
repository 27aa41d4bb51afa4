"""Entries of a conversation: messages as Chat Completions has them, decoded. Pure.

A stored turn is two messages, and usually two entries. A turn that brought more than one user
message (tool results, examples) keeps all it brought in `messages` of its user message, as it came.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from chat.core.errors import NotFound
from chat.core.messages import find_ref

Entry = dict[str, Any]
_USUAL = frozenset(("role", "content"))


class _StoredEntry(msgspec.Struct, frozen=True):
    id: str
    role: str
    content: Any
    messages: list[Entry] | None = None
    tool_calls: list[Entry] = []
    reasoning: str = ""


_stored = msgspec.json.Decoder(_StoredEntry)


class Conversation(msgspec.Struct, frozen=True):
    """The entries of stored messages; `message_of` has, for each, the index of its message."""

    entries: list[Entry]
    message_of: list[int]
    known: dict[str, Entry]  # by the id of an item, for references


def entries_of(messages: Iterable[bytes]) -> Conversation:
    """What stored messages are made of."""
    turns = Conversation([], [], {})
    for at, message in enumerate(messages):
        stored = _stored.decode(message)
        entries = _entries(stored)
        turns.entries.extend(entries)
        turns.message_of.extend([at] * len(entries))
        _learn_ids(turns.known, stored, entries)
    return turns


def content_of(entries: list[Entry]) -> object:
    """What native clients are shown as the user's message of a turn."""
    said = [entry.get("content") for entry in entries if entry.get("role") == "user"]
    return said[-1] if said and said[-1] is not None else ""


def is_plain(entries: list[Entry]) -> bool:
    """Whether one user message says it all, so that a turn need not keep its entries."""
    return len(entries) == 1 and entries[0].get("role") == "user" and entries[0].keys() == _USUAL


def resolve(entries: list[Entry], known: dict[str, Entry]) -> list[Entry]:
    """Put items in place of references to them, and calls into the answer they belong to.

    Raises NotFound.
    """
    found: list[Entry] = []
    for entry in entries:
        if (name := entry.get("reference")) is not None:
            entry = {} if name.startswith("rs_") else _look_up(name, known)
        if not entry:  # the model's thinking, which is kept with its turn
            continue
        last = found[-1] if found else {}
        if _is_call(entry) and last.get("role") == "assistant":
            calls = [*last.get("tool_calls", []), *entry["tool_calls"]]
            found[-1] = last | {"tool_calls": calls}
        else:
            found.append(entry)
    return found


def answer_entry(text: str, calls: list[Entry], reasoning: str = "") -> Entry:
    """The model's answer; beside calls, its thinking goes back to it, as some servers require."""
    if not calls:
        return {"role": "assistant", "content": text}
    entry = {"role": "assistant", "content": text or None, "tool_calls": calls}
    return entry | ({"reasoning_content": reasoning} if reasoning else {})


def _entries(stored: _StoredEntry) -> list[Entry]:
    if stored.role == "user" and stored.messages is not None:
        return stored.messages
    if stored.role == "user":
        return [{"role": "user", "content": stored.content}]
    if not stored.content and not stored.tool_calls:  # nothing was asked, or nothing answered
        return []
    return [answer_entry(stored.content, stored.tool_calls, stored.reasoning)]


def _learn_ids(known: dict[str, Entry], stored: _StoredEntry, entries: list[Entry]) -> None:
    """The ids under which the Responses API shows the items of a message."""
    own = stored.id.removeprefix("msg_")
    if stored.role == "user":
        known.update((f"msg_{own}-{at}" if at else stored.id, e) for at, e in enumerate(entries))
        return
    known[stored.id] = {"role": "assistant", "content": stored.content}
    for at, call in enumerate(stored.tool_calls):
        known[f"fc_{own}-{at}"] = {"role": "assistant", "content": None, "tool_calls": [call]}


def _look_up(name: str, known: dict[str, Entry]) -> Entry:
    entry = known.get("_".join(name.split("_")[:2]))
    if entry is None:
        raise NotFound(f"There is no item {name} in this chat.", param="input")
    return entry


def _is_call(entry: Entry) -> bool:
    return bool(entry.get("tool_calls")) and not entry.get("content")


def turn_of(item_id: str) -> str | None:
    """The id of the message that an item or a response belongs to, without its chat."""
    kind, _, rest = item_id.partition("_")
    own = rest.partition("_")[0].partition("-")[0]
    message_id = f"msg_{own}"
    is_item = kind in ("msg", "fc", "rs", "resp") and find_ref(message_id) is not None
    return message_id if is_item else None
