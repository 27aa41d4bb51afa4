"""One word per thing: the product's vocabulary is docs/glossary.md, and no other is used."""

import ast
import re
from collections import Counter
from pathlib import Path

from tests.harness import ROOT

# Metaphors for what the field has its own terms for: wake-up pipe, reply, inbox entry, link ...
BANNED = set(
    "bell bells ear ears hear hears hearing heard hearer hearers letter letters mail mails"
    " door doors stranger strangers welcome standing told".split()
)
# Plain English in a sentence, but too vague for a class.
BANNED_CLASSES = {"Entry", "Line", "Seen", "Word"}
GLOSSARY = ROOT / "docs/glossary.md"


def _sources() -> list[Path]:
    """The code of the product, Python and Lua."""
    paths = [ROOT / "main.py", *sorted((ROOT / "chat").rglob("*"))]
    return [path for path in paths if path.suffix in (".py", ".lua")]


def _banned(line: str) -> set[str]:
    """The banned words of a line: in names (snake_case, CamelCase), strings and comments."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", line)
    return {part.lower() for part in parts} & BANNED


def _classes() -> list[tuple[str, str]]:
    """(name, file) of each class."""
    found = []
    for path in _sources():
        if path.suffix == ".py":
            nodes = ast.walk(ast.parse(path.read_text()))
            where = str(path.relative_to(ROOT))
            found += [(node.name, where) for node in nodes if isinstance(node, ast.ClassDef)]
    return found


def test_no_file_uses_a_banned_word() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number} {' '.join(sorted(words))}"
        for path in _sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (words := _banned(line))
    ]
    assert found == []


def test_a_name_stands_for_one_class() -> None:
    counts = Counter(name.lstrip("_") for name, _ in _classes())
    homonyms = {name for name, count in counts.items() if count > 1}
    found = [(where, name) for name, where in _classes() if name.lstrip("_") in homonyms]
    assert found == []


def test_no_class_has_a_vague_name() -> None:
    found = [(where, name) for name, where in _classes() if name.lstrip("_") in BANNED_CLASSES]
    assert found == []


def test_the_glossary_names_only_what_exists() -> None:
    text = GLOSSARY.read_text()
    files = re.findall(r"`([\w/]+\.(?:py|lua))`", text)
    assert [name for name in files if not (ROOT / "chat" / name).exists()] == []
    named = set(re.findall(r"`([A-Z][a-z]+\w*)`", text))
    assert sorted(named - {name for name, _ in _classes()}) == []


def test_the_glossary_is_in_order_and_names_a_term_once() -> None:
    terms = re.findall(r"^\*\*(.+?)\*\*", GLOSSARY.read_text(), re.MULTILINE)
    assert len(terms) >= 40
    assert terms == sorted(set(terms), key=str.lower)
