"""Cursors of streams: which turn, and how much of it a client has. Pure.

    <mark of the turn>:<offset>    the answer up to that many code points
    <mark of the turn>:end         all of it, and how it ended
    <offset>                       of whichever turn is followed

The ids of a stream's events are cursors. A mark holds the index of its turn, so that it is found
at once, and the beginning of its nonce, so that no other turn is taken for it.
"""

import re

import msgspec

from chat.core.messages import TurnRef

#: The offset of a client that has the ending: behind all text, below the ids that end a log.
END = 10**15
_NONCE_DIGITS = 8
_MARK = r"[0-9a-f]{9,16}"
_CURSOR = re.compile(rf"(?:({_MARK}):)?([0-9]{{1,15}})|({_MARK}):end")


class Cursor(msgspec.Struct, frozen=True):
    """`mark` is "" in a bare number; `offset` is END when the client has the ending."""

    mark: str
    offset: int

    @property
    def index(self) -> int:
        """The index of the turn in the history."""
        return int(self.mark[_NONCE_DIGITS:], 16)

    def matches(self, ref: TurnRef) -> bool:
        """Whether it names this turn."""
        return self.mark == mark_of(ref)


def mark_of(ref: TurnRef) -> str:
    """What the cursors of a turn begin with."""
    return f"{ref.nonce[:_NONCE_DIGITS]}{ref.index:x}"


def read_cursor(text: str) -> Cursor | None:
    """A cursor as a client sends it back; None for what is none."""
    match = _CURSOR.fullmatch(text)
    if not match:
        return None
    mark, offset, ended = match.groups()
    return Cursor(ended, END) if ended else Cursor(mark or "", int(offset))
