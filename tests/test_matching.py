"""What is new in a request that may carry the whole conversation."""

import json
from typing import Any

import pytest

from chat.core.entries import resolve
from chat.core.matching import marks_of, match
from chat.web.dialects.openai.items import read_input
from tests.harness import ROOT

CASES = [
    json.loads(line) for line in (ROOT / "tests/wire/history-cases.ndjson").read_text().splitlines()
]


def test_there_are_all_cases() -> None:
    assert len(CASES) == 103


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['client']} {c['case']}")
def test_what_real_clients_send_is_recognised(case: dict[str, Any]) -> None:
    stored, sent = as_entries(case)
    found = match(stored, sent)
    new = len(marks_of(sent)) - len(marks_of(sent[: found.new]))
    assert (found.how, new) == (case["how"], case["new"])


def as_entries(case: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Both lists as Chat Completions has them; references by the ids of the stored items."""
    if case["api"] == "chat/completions":
        return case["stored"], case["sent"]
    stored, sent = case["stored"], case["sent"]
    known = {item["id"]: (read_input([item]) or [{}])[0] for item in stored if item.get("id")}
    return resolve(read_input(stored), {}), resolve(read_input(sent), known)


def test_append_and_replace_are_no_guess() -> None:
    stored = [user("a"), answer("b")]
    sent = [user("x"), answer("y"), user("z")]
    assert match(stored, sent).how == "foreign"
    append, replace = match(stored, sent, "append"), match(stored, sent, "replace")
    assert (append.how, append.keep, append.new) == ("append", 2, 2)
    assert (replace.how, replace.keep, replace.new) == ("replace", 0, 0)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}
