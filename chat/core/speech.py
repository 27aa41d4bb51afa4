"""Splits what a model sends into its answer and its thinking. Pure.

Some servers send the thinking as a field of its own, some as a block at the beginning of the text:
`<think> ... </think>`. Emoji may come as two halves (surrogates) in two chunks.
"""

from chat.core.lenient_json import without_surrogates

_BLOCKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
# An answer that begins with an end of thinking: its beginning stood in the server's template.
_MARKS = {**_BLOCKS, **dict.fromkeys(_BLOCKS.values(), "")}
_FIRST = frozenset(mark[0] for mark in _MARKS)


class Speech:
    """Text in, in pieces of any size; (answer, thinking) out."""

    def __init__(self) -> None:
        self.is_plain = False  # from here on, text is the answer just as it comes
        self._halves = ["", ""]
        self._held = ""
        self._closer = ""
        self._has_thought = self._answers = False

    def receive(self, text: str, reasoning: str) -> tuple[str, str]:
        """The next piece: text, in which there may be thinking, and what is known to be thinking."""
        text, reasoning = self._join(0, text), self._join(1, reasoning)
        answer, thought = self._split(text) if text else ("", "")
        self.is_plain = self._answers and not self._halves[0]
        return answer, reasoning + thought

    def end(self) -> tuple[str, str]:
        """What was held back because of what might have followed."""
        held = self._held + (self._halves[0] and "\ufffd")
        self._held, self._halves = "", ["", ""]
        if self._closer:
            return "", held
        return ("" if self._has_thought and held.isspace() else held), ""

    def _join(self, channel: int, text: str) -> str:
        """Put the halves of a character together; the first one waits for the second."""
        if not text:
            return ""
        text = self._halves[channel] + text
        half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        self._halves[channel] = half
        return without_surrogates(text[:-1] if half else text)

    def _split(self, text: str) -> tuple[str, str]:
        text, self._held = self._held + text, ""
        thoughts: list[str] = []
        while text and not self._answers:
            if self._closer:
                thought, text = self._think(text)
                thoughts.append(thought)
            else:
                text = self._begin(text)
        return text, "".join(thoughts)

    def _begin(self, text: str) -> str:
        """See whether thinking comes first; returns what remains to be looked at."""
        words = text.lstrip()
        if words and words[0] not in _FIRST:
            self._answers = True
            return words if self._has_thought else text
        for mark, closer in _MARKS.items():
            if words.startswith(mark):
                self._closer, self._has_thought = closer, True
                return words[len(mark) :]
        if any(mark.startswith(words) for mark in _MARKS):
            self._held = text
            return ""
        self._answers = True
        return words if self._has_thought else text

    def _think(self, text: str) -> tuple[str, str]:
        """The thinking, and what follows its end."""
        thought, end, rest = text.partition(self._closer)
        if end:
            self._closer = ""
            return thought, rest
        kept = _length_of_beginning(text, self._closer)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], ""


def without_thinking(text: str) -> str:
    """A whole text without the thinking at its beginning."""
    speech = Speech()
    return speech.receive(text, "")[0] + speech.end()[0]


def _length_of_beginning(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    lengths = range(min(len(mark) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(mark[:length])), 0)
