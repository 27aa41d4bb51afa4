"""Text that has a limit in bytes, and the beginning of an answer whose end is not waited for. Pure."""

import json
import re

_BEGINS = re.compile(rb'"content"\s*:\s*"')
_CHARACTERS = re.compile(rb'(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+')


class LimitedText:
    """Text in pieces, of so many bytes at most."""

    def __init__(self, max_bytes: int) -> None:
        self._pieces: list[str] = []
        self._left = max_bytes

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, text: str) -> str:
        """Take text; returns as much of it as fits."""
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._left:
            text = text.encode()[: max(0, self._left)].decode(errors="ignore")
        self._left -= size
        self._pieces.append(text)
        return text


def read_beginning(body: bytes) -> str:
    """The text of a completion as far as it has come; "" where there is none."""
    begins = _BEGINS.search(body)
    found = _CHARACTERS.match(body, begins.end()) if begins else None
    if not found:
        return ""
    whole = found[0].decode(errors="ignore")  # without half a character at its end
    text = str(json.loads(f'"{whole}"', strict=False))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
