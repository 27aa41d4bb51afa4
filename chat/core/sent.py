"""What a client of the OpenAI API sent, and where it belongs in a chat. Pure."""

from typing import Any

import msgspec

from chat.core import matching
from chat.core.branches import ROOT
from chat.core.entries import Entry, content_of, entries_of, is_plain, resolve
from chat.core.matching import marks_of
from chat.core.messages import Ask, id_of

_INSTRUCTIONS = frozenset(("system", "developer"))


class Sent(msgspec.Struct, frozen=True):
    """The entries of a request.

    `wish`: append or replace, instead of a guess. `is_next`: all of them follow the message that the
    request names, whatever they are.
    """

    entries: list[Entry]
    wish: str = ""
    is_next: bool = False


class Placed(msgspec.Struct, frozen=True):
    """`kept`: how many of the stored messages the turn follows; `as_sent`: the whole prompt, when
    the request carried answers of the model.
    """

    kept: int
    new: list[Entry]
    head: list[Entry]
    as_sent: list[Entry] | None


def place(sent: Sent, stored: list[bytes]) -> Placed:
    """Find out what is new, and what it follows. Raises NotFound."""
    turns = entries_of(stored)
    entries = resolve(sent.entries, turns.known)
    head = [entry for entry in entries if _instructs(entry)]
    if sent.is_next:
        return Placed(len(stored), _without_instructions(entries), head, None)
    found = matching.match(turns.entries, entries, sent.wish)
    marks = marks_of(turns.entries)
    kept, new = len(stored), found.new
    if found.keep < len(marks):
        # A turn is the smallest thing to go on from: of one that differs, nothing is kept.
        at = turns.message_of[marks[found.keep][1]]
        kept = at - at % 2
        before = sum(1 for _, entry in marks if turns.message_of[entry] < kept)
        new = found.entry_of[before] if before < len(found.entry_of) else found.new
    has_answers = any(map(matching.is_answer, entries))
    return Placed(
        kept, _without_instructions(entries[new:]), head, entries if has_answers else None
    )


def with_new(ask: Ask, new: list[Entry]) -> Ask:
    """The request for a turn that brings these entries."""
    return msgspec.structs.replace(
        ask,
        content=msgspec.Raw(msgspec.json.encode(content_of(new))),
        messages=msgspec.UNSET if is_plain(new) else new,
    )


def with_parent(ask: Ask, stored: list[bytes], kept: int) -> Ask:
    """The request for a turn that follows only the first of the stored messages."""
    if kept == len(stored):
        return ask
    parent_id = id_of(stored[kept - 1]) if kept else ROOT
    return msgspec.structs.replace(ask, parent_id=parent_id)


def likely_new(entries: list[Entry]) -> list[Entry]:
    """What is probably new, before it is known what is stored: all after the last answer."""
    last = max((at for at, entry in enumerate(entries) if _is_answer(entry)), default=-1)
    return _without_instructions(entries[last + 1 :])


def _is_answer(entry: dict[str, Any]) -> bool:
    return entry.get("role") == "assistant" or "reference" in entry


def _instructs(entry: Entry) -> bool:
    return entry.get("role") in _INSTRUCTIONS


def _without_instructions(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not _instructs(entry)]
