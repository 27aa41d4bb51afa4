"""The ids of a turn, of its messages and its answer."""

import re
import secrets

import msgspec

_ID = re.compile(r"(?:msg|turn)_([0-9a-f]{1,8})([0-9a-f]{24})")


class TurnRef(msgspec.Struct, frozen=True):
    """A turn: the index of its user message in the history, and a random nonce.

    All ids of a turn are made of these two, so that any of them leads straight to an index of the
    history; the nonce of the message there proves that it is the same turn.
    """

    index: int
    nonce: str

    @property
    def turn_id(self) -> str:
        return f"turn_{self.index:x}{self.nonce}"

    @property
    def user_message_id(self) -> str:
        return f"msg_{self.index:x}{self.nonce}"

    @property
    def message_id(self) -> str:
        return f"msg_{self.index + 1:x}{self.nonce}"


def new_nonce() -> str:
    """96 random bits: the identity, and the fencing token, of one turn."""
    return secrets.token_hex(12)


def find_ref(some_id: str) -> TurnRef | None:
    """Parse a message id or turn id; `index` is that of the very message."""
    match = _ID.fullmatch(some_id)
    return TurnRef(int(match[1], 16), match[2]) if match else None
