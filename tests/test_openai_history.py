"""The conversations of real clients over HTTP: nothing is stored twice, no prompt is changed."""

import json
import random
from typing import Any

import pytest

from chat.core.entries import entries_of
from chat.core.matching import marks_of
from dev.model import Answer, ModelServer
from tests.harness import Client
from tests.test_matching import CASES, as_entries

_INSTRUCTIONS = ("system", "developer")


def answers_with(entry: dict[str, Any]) -> Answer:
    """A model that answers just so."""
    message = {"role": "assistant", "content": None} | entry
    calls = message.get("tool_calls")
    reason = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return Answer(raw=json.dumps({"choices": [choice]}).encode())


def store(client: Client, model: ModelServer, chat_id: str, entries: list[Any]) -> None:
    """Have a chat say what a case says was said."""
    new: list[Any] = []
    for entry in entries:
        if entry["role"] != "assistant":
            new.append(entry)
            continue
        model.enqueue(answers_with(entry))
        messages = new or [{"role": "user", "content": ""}]
        body = {"messages": messages, "metadata": {"chat_history": "append"}}
        made = client.post(f"/{chat_id}/v1/chat/completions", body)
        assert made.status == 200, made.body
        new = []


def kept(client: Client, chat_id: str) -> list[Any]:
    """The marks of what the active branch of a chat holds."""
    messages = client.get(f"/{chat_id}/chat").json
    entries = entries_of([json.dumps(message).encode() for message in messages]).entries
    return [mark for mark, _ in marks_of(entries)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['client']} {c['case']}")
def test_what_real_clients_send_is_stored_once(
    client: Client, model: ModelServer, chat_id: str, case: dict[str, Any]
) -> None:
    stored, sent = as_entries(case)
    if not stored or stored[-1]["role"] != "assistant":
        pytest.skip("a chat always ends with an answer")
    store(client, model, chat_id, stored)
    before = kept(client, chat_id)
    model.enqueue(Answer(["The answer."]))
    made = client.post(f"/{chat_id}/v1/chat/completions", {"messages": sent})
    assert made.status == 200, made.body
    if any(entry["role"] == "assistant" for entry in sent):
        assert model.requests[-1].body["messages"] == sent
    new = [mark for mark, _ in marks_of(sent)][len(marks_of(sent)) - case["new"] :]
    after = kept(client, chat_id)
    assert after[-1] == ("assistant", "The answer.")
    assert after[len(after) - 1 - len(new) : -1] == new
    if case["how"] in ("whole", "delta", "window", "resent", "cut"):
        assert after[: len(before)] == before and len(after) == len(before) + len(new) + 1


def _rebuilt(entry: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """An entry as some client or other sends it back."""
    entry = json.loads(json.dumps(entry))
    if isinstance(entry.get("content"), str) and rng.random() < 0.3:
        entry["content"] = [{"type": "text", "text": entry["content"]}]
    for call in entry.get("tool_calls") or []:
        arguments = json.loads(call["function"]["arguments"])
        spaces = rng.choice([(",", ":"), (", ", ": ")])
        call["function"]["arguments"] = json.dumps(arguments, separators=spaces)
    if entry["role"] == "assistant" and rng.random() < 0.5:
        entry |= {"refusal": None, "annotations": []}
        if not entry.get("content"):
            entry["content"] = rng.choice(["", None])
    return entry


@pytest.mark.parametrize("seed", range(8))
def test_random_conversations_of_random_clients_are_kept_as_they_were_said(
    client: Client, model: ModelServer, chat_id: str, seed: int
) -> None:
    rng = random.Random(seed)
    said: list[Any] = []
    for turn in range(rng.randint(4, 9)):
        calls = said[-1].get("tool_calls") or [] if said else []
        results = [{"role": "tool", "tool_call_id": c["id"], "content": f"r{turn}"} for c in calls]
        new = results or [{"role": "user", "content": f"question {turn} {rng.random()}"}]
        answer: dict[str, Any] = {"role": "assistant", "content": f"answer {turn}"}
        if rng.random() < 0.4:
            call = {"name": "f", "arguments": json.dumps({"turn": turn, "b": [1]})}
            made = {"id": f"c{turn}", "type": "function", "function": call}
            answer = {"role": "assistant", "content": None, "tool_calls": [made]}
        model.enqueue(answers_with(answer))
        at = len(said) - 2
        back = rng.random() < 0.2 and at > 0 and said[at - 1]["role"] == "assistant"
        if back and not results and not said[at - 1].get("tool_calls"):
            said = said[:at]  # its last question is edited
            sent = [*said, *new]
        else:
            sent = [*said, *new] if rng.random() < 0.6 else new
        sent = [_rebuilt(entry, rng) for entry in sent]
        body = {"messages": sent, "metadata": {"turn": str(turn)}}
        assert client.post(f"/{chat_id}/v1/chat/completions", body).status == 200
        said += [*new, answer]
        assert kept(client, chat_id) == [mark for mark, _ in marks_of(said)]
    if said[-1].get("tool_calls"):
        return
    client.say(chat_id, "And now?")
    asked = model.requests[-1].body["messages"]
    assert [m for m, _ in marks_of(asked)] == [m for m, _ in marks_of(said)] + [
        ("user", "And now?")
    ]
