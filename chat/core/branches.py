"""Which messages of a history belong to one branch. Pure.

A history is a list that only grows: each turn appends a user's message and its answer, so that
turns begin at even indexes. Usually a turn continues the one before it. One that continues an older
turn, or none, is a fork: the index at which it begins, and that of its parent (-1: none). Nothing
else is stored about branches, so a linear chat costs nothing extra.

The active branch is the one with the newest message: its leaf is the last message of the list.
"""

from chat.core.messages import find_ref

ROOT = "root"

Forks = list[tuple[int, int]]
Ranges = list[tuple[int, int]]


def read_forks(text: str) -> Forks:
    """Forks from the form in which they are stored, `10:5 14:3`, by ascending index."""
    pairs = (fork.split(":") for fork in text.split())
    return [(int(index), int(parent)) for index, parent in pairs]


def forks_after(text: str, index: int, parent: int) -> str | None:
    """The stored forks after a turn at `index` that continues `parent`; None: no change."""
    return None if parent == index - 1 else f"{text} {index}:{parent}".strip()


def path(forks: Forks, leaf: int) -> Ranges:
    """The indexes from the root to `leaf`, as ranges whose ends are both included."""
    ranges: Ranges = []
    for index, parent in reversed(forks):
        if index <= leaf:
            ranges.append((index, leaf))
            leaf = parent
    if leaf >= 0:
        ranges.append((0, leaf))
    return ranges[::-1]


def newest(ranges: Ranges, maximum: int) -> Ranges:
    """The last `maximum` indexes of a path."""
    kept: Ranges = []
    for first, last in reversed(ranges):
        if maximum <= 0:
            break
        first = max(first, last - maximum + 1)
        maximum -= last - first + 1
        kept.append((first, last))
    return kept[::-1]


def up_to(ranges: Ranges, index: int) -> Ranges:
    """What of a path lies at or before an index."""
    return [(first, min(last, index)) for first, last in ranges if first <= index]


def length(ranges: Ranges) -> int:
    """How many messages the ranges hold together."""
    return sum(last - first + 1 for first, last in ranges)


def parent_index(parent_id: str | None, count: int) -> int | None:
    """The index of the answer that a turn continues: that of the turn the message belongs to.

    -1: the turn continues none; None: no message of a history of `count` has such an id.
    """
    if parent_id is None:
        return count - 1
    if parent_id == ROOT:
        return -1
    ref = find_ref(parent_id) if parent_id.startswith("msg_") else None
    return ref.index | 1 if ref and ref.index < count else None
