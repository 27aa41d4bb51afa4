"""What a chat is called before anybody names it, from its first message."""

from typing import Any

import msgspec

from chat.core.messages import plain_text

_TITLE_CHARACTERS = 50
_JOINER = "\u200d"
_JOINING = frozenset("\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_FLAG_HALVES = frozenset(map(chr, range(0x1F1E6, 0x1F200)))


def _parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a decoded content that are not text."""
    return [part for part in content if part["type"] != "text"] if isinstance(content, list) else []


def short_title(content: msgspec.Raw) -> str:
    """A title made from the beginning of a chat's first text; "" for a message without text."""
    text = " ".join(plain_text(content).split())
    if len(text) <= _TITLE_CHARACTERS:
        return text
    words = text[:_TITLE_CHARACTERS].rpartition(" ")[0]
    if len(words) < _TITLE_CHARACTERS // 2:  # no blanks: Chinese, Thai, a URL
        words = text[: _safe_cut(text, _TITLE_CHARACTERS)]
    return words.rstrip(" ,.;:") + "…"


def label(content: msgspec.Raw) -> str:
    """What a message without text is called: the name of its first file, or "Image"."""
    for part in _parts(msgspec.json.decode(content)):
        inner = part.get(part["type"])
        name = inner.get("filename") if isinstance(inner, dict) else None
        return name[:_TITLE_CHARACTERS] if name and isinstance(name, str) else "Image"
    return ""


def _safe_cut(text: str, at: int) -> int:
    """The last index up to `at` that lies between two characters as people see them."""
    import unicodedata

    def continues(index: int) -> bool:
        """Marks, joiners, modifiers of skin, and the second half of a flag belong to what precedes."""
        char, before = text[index], text[index - 1]
        if unicodedata.category(char)[0] == "M" or char in _JOINING or before == _JOINER:
            return True
        return char in _FLAG_HALVES and before in _FLAG_HALVES

    return next((index for index in range(at, at // 2, -1) if not continues(index)), at)
