"""Recognises what is new in a request that may carry the whole conversation. Pure.

Clients of the OpenAI API resend what was said, rebuilt in their own way: without ids, with other
spaces in the arguments of calls, parts joined. So entries are compared by marks: who says what, which
call, which result. System and developer messages have none: they may change with every turn.

    first    nothing is stored yet              append    the client said so
    delta    only new words                     replace   the client said so
    resent   the client's own words again, and new ones (it never received the answers)
    whole    all that is stored, and new entries
    window   the newest of what is stored, and new entries
    cut      all that is stored, but the last answer only up to where the client stopped reading
    back     a beginning of what is stored, and new entries: a branch
    branch   something else from some entry on: a branch      foreign   from the first entry on
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

How = Literal[
    "first", "delta", "resent", "whole", "window", "cut", "back", "branch", "foreign",
    "append", "replace",
]  # fmt: skip
Entry = Mapping[str, Any]
Mark = tuple[object, ...]
Marks = list[tuple[Mark, int]]  # each with the index of its entry

_TEXTS = frozenset(("text", "input_text", "output_text"))
_HIDDEN = frozenset(("system", "developer"))


class Match(msgspec.Struct, frozen=True):
    """The first `keep` marks of what is stored stay in front; of the entries sent, those from index
    `new` on are new. `entry_of` has, for each mark sent, the index of its entry.
    """

    how: How
    keep: int
    new: int
    entry_of: tuple[int, ...] = ()


def match(stored: Iterable[Entry], sent: Sequence[Entry], wish: str = "") -> Match:
    """Compare entries; `wish`: "append" or "replace" instead of a guess."""
    have = [mark for mark, _ in marks_of(stored)]
    got = marks_of(sent)
    said = [mark for mark, _ in got]
    how, keep, new = _compare(have, said, wish)
    indexes = tuple(index for _, index in got)
    return Match(how, keep, indexes[new] if new < len(indexes) else len(sent), indexes)


def marks_of(entries: Iterable[Entry]) -> Marks:
    """What makes each entry recognisable; an answer with calls has several marks."""
    return [(mark, index) for index, entry in enumerate(entries) for mark in _marks(entry)]


def is_answer(entry: Entry) -> bool:
    """Whether an entry is the model's."""
    return entry.get("role") == "assistant"


def _compare(have: list[Mark], got: list[Mark], wish: str) -> tuple[How, int, int]:
    """(how, marks of the stored ones that stay, marks of the sent ones that are not new)."""
    last = max((i for i, mark in enumerate(got) if mark[0] in ("assistant", "call")), default=-1)
    if wish == "append":
        return "append", len(have), last + 1
    if wish == "replace":
        return "replace", 0, 0
    if not have:
        return "first", 0, 0
    if last < 0:
        return _compare_words(have, got)
    return _compare_history(have, got[: last + 1])


def _compare_words(have: list[Mark], got: list[Mark]) -> tuple[How, int, int]:
    """There is nothing of the model's in it: new words, unless all but the last are said again."""
    again = len(got) - 1
    theirs = [mark for mark in have if mark[0] not in ("assistant", "call")]
    if again > 0 and theirs[-again:] == got[:-1]:
        return "resent", len(have), again
    return "delta", len(have), 0


def _compare_history(have: list[Mark], head: list[Mark]) -> tuple[How, int, int]:
    size = len(head)
    if head == have[:size]:
        return ("whole" if size == len(have) else "back"), size, size
    if size == len(have) and head[:-1] == have[:-1] and _is_cut(head[-1], have[-1]):
        return "cut", size, size
    if head[-1] == have[-1]:
        return "window", len(have), size
    same = next(i for i in range(size) if i >= len(have) or head[i] != have[i])
    return ("branch" if same else "foreign"), same, same


def _is_cut(sent: Mark, stored: Mark) -> bool:
    texts = sent[1], stored[1]
    return sent[0] == stored[0] == "assistant" and str(texts[1]).startswith(str(texts[0]))


def _marks(entry: Entry) -> list[Mark]:
    role = entry.get("role")
    if not entry or role in _HIDDEN:
        return []
    if role == "tool":
        return [("result", entry.get("tool_call_id"), _said(entry.get("content")))]
    calls = [_call(call) for call in _list(entry.get("tool_calls"))]
    said = _said(entry.get("content"))
    return calls if calls and not said else [(role, said), *calls]


def _call(call: Entry) -> Mark:
    function = call.get("function") or call.get("custom") or {}
    arguments = function.get("arguments", function.get("input"))
    return ("call", call.get("id"), function.get("name"), _plain_json(arguments))


def _said(content: object) -> object:
    """The text of a content, or its parts, where it holds more."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part for part in _list(content) if isinstance(part, dict)]
    if all(part.get("type") in _TEXTS for part in parts):
        return "".join(part.get("text") or "" for part in parts)
    return tuple(map(_part, parts))


def _part(part: Entry) -> Mark:
    """A part, by what names it; both APIs' names for the same are made one."""
    kind = str(part.get("type", ""))
    if kind in _TEXTS:
        return ("text", part.get("text"))
    image, file = part.get("image_url"), part.get("file")
    url = image.get("url") if isinstance(image, dict) else image
    named = file.get("file_id") if isinstance(file, dict) else part.get("file_id")
    return (
        kind.replace("input_", "").replace("_url", ""),
        url,
        named,
        repr(part.get("input_audio")),
    )


def _plain_json(arguments: object) -> object:
    """Arguments without the spaces between them, and in one order."""
    if not isinstance(arguments, str):
        return repr(arguments)
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments or "{}"), order="sorted")
    except (msgspec.MsgspecError, RecursionError):
        return arguments


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
