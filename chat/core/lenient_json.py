"""JSON as model servers really write it: several values in a row, illegal bytes, NaN. Pure."""

import json
import re

import msgspec

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)  # ValueError: illegal UTF-8
_DONE = "[DONE]"
# What may stand between two values: blanks, commas, BOMs, the mark of RFC 7464, a line's `data:`.
_BETWEEN = re.compile(r"(?:[\s,\x00\x1e\ufeff]|data:)*")
_VALUE_BEGINS = re.compile(r"\n(?=[{\[])")
_BAD_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)')
_MAX_INT_DIGITS = 19
_MAX_ATTEMPTS = 64  # to find one more value behind what is none


class Decoded(msgspec.Struct, frozen=True):
    """The values, what follows them that is no JSON, and whether `[DONE]` stood behind them."""

    values: list[object] = []
    rest: str = ""
    done: bool = False

    @property
    def is_whole(self) -> bool:
        return self.done or (bool(self.values) and not self.rest)


def decode_all(data: bytes) -> Decoded:
    """All JSON values in some bytes. Texts may hold lone surrogates; raises nothing."""
    try:
        return Decoded([msgspec.json.decode(data)])
    except _UNREADABLE:
        text = data.decode("utf-8", "replace")
    found = _decode_text(text)
    if not found.is_whole and "\\" in found.rest:
        repaired = _decode_text(_BAD_ESCAPE.sub(_escape_backslash, text))
        return repaired if repaired.is_whole else found
    return found


def without_surrogates(text: str) -> str:
    """Pairs of surrogates become their character, lone ones U+FFFD: only such text can be encoded."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _decode_text(text: str) -> Decoded:
    values: list[object] = []
    rest: list[str] = []
    at = _skip(text, 0)
    while at < len(text) and len(rest) < _MAX_ATTEMPTS:
        if text.startswith(_DONE, at):
            return Decoded(values, "\n".join(rest), done=True)
        try:
            value, end = _read_value(text, at)
            values.append(value)
        except (ValueError, RecursionError):
            end = _next_line(text, at)
            rest.append(text[at:end].rstrip())
        at = _skip(text, end)
    return Decoded(values, "\n".join(rest))


def _read_value(text: str, at: int) -> tuple[object, int]:
    """The value that begins there, and where it ends; raises ValueError and RecursionError."""
    if text[at] not in '{["':  # a number at the beginning of plain text is not JSON
        raise ValueError
    return _decoder.raw_decode(text, at)


def _next_line(text: str, at: int) -> int:
    """Where the next line begins on which there may be another value."""
    found = _VALUE_BEGINS.search(text, at)
    return found.end() if found else len(text)


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _escape_backslash(found: re.Match[str]) -> str:
    return found[0] if found[1] else "\\\\"


def _read_int(digits: str) -> float:
    """Python refuses to read an int of thousands of digits."""
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else float(digits)


_decoder = json.JSONDecoder(strict=False, parse_int=_read_int)
