"""Branches: a turn on an older message, in pure form and over HTTP."""

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.core import branches
from dev.model import Answer, ModelServer
from tests.harness import Client
from tests.test_bad_input import assert_error

TREES = st.lists(st.integers(-1, 30), min_size=1, max_size=30)


def _grow(choices: list[int]) -> tuple[list[int], str]:
    """Turns that continue turns chosen at random: the parent of each (-1: none), and the forks."""
    parents: list[int] = []
    forks = ""
    for turn, choice in enumerate(choices):
        parent = min(choice, turn - 1)
        parents.append(parent)
        index = 2 * turn
        leaf = 2 * parent + 1 if parent >= 0 else -1
        forks = branches.forks_after(forks, index, leaf) or forks
    return parents, forks


def _walk(parents: list[int], turn: int) -> list[int]:
    """The indexes from the root to the end of a turn, found the slow way."""
    indexes: list[int] = []
    while turn >= 0:
        indexes = [2 * turn, 2 * turn + 1, *indexes]
        turn = parents[turn]
    return indexes


@settings(max_examples=1000, deadline=None)
@given(TREES)
def test_for_every_leaf_the_path_is_exactly_its_ancestors(choices: list[int]) -> None:
    parents, text = _grow(choices)
    forks = branches.read_forks(text)
    for turn in range(len(parents)):
        ranges = branches.path(forks, 2 * turn + 1)
        indexes = [index for first, last in ranges for index in range(first, last + 1)]
        assert indexes == _walk(parents, turn)
        assert branches.length(ranges) == len(indexes)
        for maximum in (1, 2, 5, 100):
            some = branches.newest(ranges, maximum)
            assert [i for first, last in some for i in range(first, last + 1)] == indexes[-maximum:]


@given(st.integers(1, 30))
def test_a_linear_chat_has_no_forks(turns: int) -> None:
    assert _grow([turn - 1 for turn in range(turns)])[1] == ""


def _contents(reply: Any) -> list[str]:
    return [m["content"] for m in reply.json]


@settings(max_examples=25, deadline=None)
@given(TREES.filter(lambda choices: len(choices) < 12))
def test_over_http_every_prompt_is_its_path(
    branching: tuple[Client, ModelServer], choices: list[int]
) -> None:
    client, model = branching
    chat = client.post("/conversation", None).json["id"]
    parents, _ = _grow(choices)
    answers: list[dict[str, Any]] = []
    for turn, parent in enumerate(parents):
        where = {"parent_id": "root" if parent < 0 else answers[parent]["id"]}
        linear = parent == turn - 1
        answers.append(client.say(chat, f"q{turn}", **({} if linear else where)).json)
        expected = [
            f"q{index // 2}" if index % 2 == 0 else answers[index // 2]["content"]
            for index in _walk(parents, turn)
        ]
        assert [m["content"] for m in model.requests[-1].body["messages"]] == expected[:-1]
        assert _contents(client.get(f"/{chat}/chat")) == expected, (
            "the newest branch is the active one"
        )
    for turn, answer in enumerate(answers):
        expected_ids = [answers[index // 2]["id"] for index in _walk(parents, turn) if index % 2]
        for leaf in (answer["id"], answer["parent_id"]):
            shown = client.get(f"/{chat}/chat?leaf={leaf}").json
            assert [m["id"] for m in shown[1::2]] == expected_ids
            assert [m["parent_id"] for m in shown] == [None, *(m["id"] for m in shown[:-1])]


@pytest.fixture(scope="module")
def branching(start_function: Any, model_server: ModelServer) -> tuple[Client, ModelServer]:
    model_server.reset()
    return start_function().client, model_server


def _edited(client: Client, chat_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A chat of three turns whose second one is asked anew."""
    first = client.say(chat_id, "one").json
    client.say(chat_id, "two")
    client.say(chat_id, "three")
    return first, client.say(chat_id, "two, edited", parent_id=first["id"]).json


def test_an_edit_is_a_turn_with_a_parent(client: Client, model: ModelServer, chat_id: str) -> None:
    first, edited = _edited(client, chat_id)
    assert [m["content"] for m in model.requests[-1].body["messages"]] == [
        "one",
        first["content"],
        "two, edited",
    ]
    assert _contents(client.get(f"/{chat_id}/chat"))[2:] == ["two, edited", edited["content"]]
    assert client.get(f"/{chat_id}").json["message_count"] == 8
    client.say(chat_id, "four")
    assert len(model.requests[-1].body["messages"]) == 5
    assert client.get(f"/{chat_id}/chat").headers["ETag"].endswith('.10"')


def test_a_branch_comes_in_pages(client: Client, chat_id: str) -> None:
    _edited(client, chat_id)
    whole = client.get(f"/{chat_id}/chat").json
    seen: list[Any] = []
    path = f"/{chat_id}/chat?limit=1"
    while path:
        reply = client.get(path)
        seen = reply.json + seen
        query = reply.headers.get("Link", "").partition("<")[2].partition(">")[0]
        path = query and f"/{chat_id}/chat{query}"
    assert seen == whole and len(whole) == 4


def test_another_branch_comes_in_pages_too(client: Client, chat_id: str) -> None:
    client.say(chat_id, "one")
    leaf = client.say(chat_id, "two").json["id"]
    client.say(chat_id, "new start", parent_id="root")
    whole = client.get(f"/{chat_id}/chat?leaf={leaf}").json
    assert [m["content"] for m in whole[::2]] == ["one", "two"]
    page = client.get(f"/{chat_id}/chat?leaf={leaf}&limit=2")
    older = client.get(
        f"/{chat_id}/chat" + page.headers["Link"].partition("<")[2].partition(">")[0]
    )
    assert older.json + page.json == whole and "Link" not in older.headers
    assert _contents(client.get(f"/{chat_id}/chat"))[0] == "new start"


def test_a_bad_parent_or_leaf_is_named(client: Client, chat_id: str) -> None:
    _edited(client, chat_id)
    other = client.say(f"{chat_id}-2", "x").json["id"]
    for bad in ("x", other, "msg_0" + "0" * 24, "msg_" + "f" * 30, "turn_0" + "0" * 24):
        assert_error(client.say(chat_id, "y", parent_id=bad), 404, "message_not_found", "parent_id")
        assert_error(client.get(f"/{chat_id}/chat?leaf={bad}"), 404, "message_not_found", "leaf")
    assert_error(client.get(f"/{chat_id}/chat?before={other}"), 400, "invalid_cursor", "before")
    assert client.say(chat_id, "y", when_busy="reject").status == 200


def test_a_dead_turn_is_settled_on_its_own_branch(
    start_function: Any, client: Client, model: ModelServer, chat_id: str
) -> None:
    victim = start_function()
    first = client.say(chat_id, "one").json
    client.say(chat_id, "two")
    model.enqueue(Answer(pieces=["said ", "never"], gate=threading.Event()))
    stream = victim.client.stream(
        f"/{chat_id}/chat", {"content": "edited", "stream": True, "parent_id": first["id"]}
    )
    follower = client.stream(f"/{chat_id}/chat/stream", method="GET")
    for each in (stream, follower):  # the follower's instance has it from Redis
        assert [each.next().name, each.next().name] == ["started", "delta"]
    victim.kill()
    client.say(chat_id, "on")
    history = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in history[:4:2]] == ["one", "edited"]
    assert history[3]["status"] == "incomplete" and history[2]["parent_id"] == first["id"]
    assert [m["content"] for m in model.requests[-1].body["messages"]] == [
        m["content"] for m in history[:-1]
    ]
