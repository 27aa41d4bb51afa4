"""Which messages of a history belong to one branch. Pure.

A history is a list that only grows: each turn appends a question and its answer, so that turns
begin at even places. Usually a turn goes on from the one before it. Where it goes on from an older
one, or from nothing, that is a fork: the place it begins at, and the place of its parent (-1: none).
Forks are all there is to know: a linear chat has none, and pays nothing for this.

The active branch is the one that was written to last: its leaf is the last message of the list.
"""

from chat.core.messages import find_ref

ROOT = "root"

Forks = list[tuple[int, int]]
Ranges = list[tuple[int, int]]


def read_forks(text: str) -> Forks:
    """Forks as they are stored: `10:5 14:3`, in the order of their places."""
    pairs = (fork.split(":") for fork in text.split())
    return [(int(place), int(parent)) for place, parent in pairs]


def forks_after(text: str, place: int, parent: int) -> str | None:
    """The stored forks with a turn at `place` that goes on from `parent`; None: they stay."""
    return None if parent == place - 1 else f"{text} {place}:{parent}".strip()


def path(forks: Forks, leaf: int) -> Ranges:
    """The places from the root to `leaf`, as ranges whose ends both count."""
    ranges: Ranges = []
    for place, parent in reversed(forks):
        if place <= leaf:
            ranges.append((place, leaf))
            leaf = parent
    if leaf >= 0:
        ranges.append((0, leaf))
    return ranges[::-1]


def newest(ranges: Ranges, most: int) -> Ranges:
    """The last `most` places of a path."""
    kept: Ranges = []
    for first, last in reversed(ranges):
        if most <= 0:
            break
        first = max(first, last - most + 1)
        most -= last - first + 1
        kept.append((first, last))
    return kept[::-1]


def length(ranges: Ranges) -> int:
    """How many messages the ranges hold together."""
    return sum(last - first + 1 for first, last in ranges)


def parent_place(parent_id: str | None, count: int) -> int | None:
    """Where a turn goes on from: after the turn that the message belongs to.

    None when no message of a history of `count` messages has such an id.
    """
    if parent_id is None:
        return count - 1
    if parent_id == ROOT:
        return -1
    ref = find_ref(parent_id) if parent_id.startswith("msg_") else None
    return ref.index | 1 if ref and ref.index < count else None
