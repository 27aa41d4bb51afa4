"""Tool calls of the model's answer, from the pieces in which they are streamed. Pure.

Protocol: OpenAI Chat Completions. Leniently: without an index, a piece with a new id begins a call,
and one without an id belongs to the last; a call without an id gets one.
"""

import secrets
from typing import Any

import msgspec

_KNOWN = ("index", "id", "type", "function", "custom")


class CallPiece(msgspec.Struct, frozen=True):
    """The next piece of a call; the first one has its id and its whole name."""

    index: int
    id: str
    name: str
    text: str  # of the arguments
    kind: str = "function"

    @property
    def begins(self) -> bool:
        return bool(self.id)


class ToolCalls:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_GatheredCall] = []
        self._index_of: dict[object, int] = {}

    def receive(self, pieces: object) -> list[CallPiece]:
        """The pieces that a chunk or a whole message holds, in one form."""
        found = pieces if isinstance(pieces, list) else []
        return [made for piece in found if isinstance(piece, dict) for made in self._add(piece)]

    def whole(self) -> list[dict[str, Any]]:
        """The calls as a message has them."""
        return [call.written() for call in self._calls]

    def _add(self, piece: dict[str, Any]) -> list[CallPiece]:
        kind = "custom" if isinstance(piece.get("custom"), dict) else "function"
        said = piece.get(kind)
        said = said if isinstance(said, dict) else {}
        name = said.get("name") if isinstance(said.get("name"), str) else ""
        text = _text(said.get("arguments" if kind == "function" else "input"))
        at = self._find(piece, bool(name))
        call = self._calls[at]
        is_first = not call.begun
        if is_first:
            call.kind, call.name = kind, call.name + str(name)
            call.more |= {key: value for key, value in piece.items() if key not in _KNOWN}
        call.pieces.append(text)
        if is_first and not call.name:
            return []  # the name is yet to come
        call.begun = True
        if is_first:
            return [CallPiece(at, call.id, call.name, "".join(call.pieces), call.kind)]
        return [CallPiece(at, "", "", text, call.kind)] if text else []

    def _find(self, piece: dict[str, Any], is_named: bool) -> int:
        """Which call a piece belongs to."""
        index, call_id = piece.get("index"), piece.get("id") or None
        key = call_id if index is None else index
        if key is None and self._calls and not is_named:
            return len(self._calls) - 1
        if key is not None and key in self._index_of:
            at = self._index_of[key]
            # Some servers number every call 0.
            if not (call_id and self._calls[at].begun and call_id != self._calls[at].id):
                return at
        at = len(self._calls)
        self._calls.append(_GatheredCall(str(call_id or f"call_{secrets.token_hex(12)}")))
        if key is not None:
            self._index_of[key] = at
        return at


class _GatheredCall:
    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.kind = "function"
        self.name = ""
        self.pieces: list[str] = []
        self.more: dict[str, Any] = {}
        self.begun = False

    def written(self) -> dict[str, Any]:
        field = "arguments" if self.kind == "function" else "input"
        said = {"name": self.name, field: "".join(self.pieces)}
        return {"id": self.id, "type": self.kind, self.kind: said, **self.more}


def _text(arguments: object) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()  # some servers send the object itself
