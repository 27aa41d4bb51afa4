"""What an agent's messages mean, without a socket."""

import json
from typing import Any

import pytest

from chat.models.agents import wire
from chat.models.agents.connection import NO_PONG, AgentConnection

PING, PATIENCE = 20.0, 120.0


def _connection() -> AgentConnection:
    return AgentConnection(PING, PATIENCE, 0.0)


def _replies(connection: AgentConnection) -> list[tuple[str, int, str]]:
    replies, connection.replies = connection.replies, []
    return [(reply.kind, reply.at, reply.text) for reply in replies]


def _receive(
    connection: AgentConnection, kind: str, data: Any = "", question: str = "q", **more: Any
) -> None:
    message = {"id": question, "message": kind, "data": data, **more}
    connection.receive(json.dumps(message), 5.0)


def _asked(texts: list[str]) -> list[tuple[str, str]]:
    return [(wire.read(text).message, wire.read(text).id) for text in texts]


def test_a_fresh_agent_is_asked_at_once_and_a_silent_one_pinged_first() -> None:
    connection = _connection()
    assert _asked(connection.ask("q", "{}", 0.5)) == [("ChatGptRequest", "q")]
    silent = _connection()
    ((kind, ping),) = _asked(silent.ask("q", "{}", 10.0))
    assert kind == "ping"
    assert _asked(silent.ask("r", "{}", 10.1)) == [], "one ping is enough"
    pong = wire.write(ping, wire.PONG)
    assert _asked(silent.receive(pong, 10.2)) == [("ChatGptRequest", "q"), ("ChatGptRequest", "r")]


def test_who_owes_a_pong_is_dead_within_seconds_when_a_question_waits() -> None:
    connection = _connection()
    connection.ask("q", "{}", 10.0)
    connection.tick(12.9)
    assert not connection.dead
    connection.tick(13.0)
    assert connection.dead == NO_PONG
    connection.lose()
    assert _replies(connection) == [("gone", 0, "")]


def test_who_works_on_a_question_may_be_as_silent_as_a_model() -> None:
    connection = _connection()
    connection.ask("q", "{}", 0.0)
    assert _asked(connection.tick(PING))[0][0] == "ping"
    connection.tick(PING + PATIENCE - 1)
    assert not connection.dead
    connection.tick(PING + PATIENCE)
    assert connection.dead


def test_a_question_that_comes_twice_is_asked_once() -> None:
    connection = _connection()
    assert connection.ask("q", "{}", 0.0) and not connection.ask("q", "{}", 0.0)
    _receive(connection, "ChatGptResponse", json.dumps({"content": "x"}))
    assert not connection.ask("q", "{}", 6.0)


def test_a_response_adds_what_had_not_been_streamed() -> None:
    for content, rest in (("Hello you", " you"), ("Hello", ""), ("", ""), ("Other", "")):
        connection = _connection()
        connection.ask("q", "{}", 0.0)
        _receive(connection, "ChatGptDelta", "Hel")
        _receive(connection, "ChatGptDelta", "lo")
        _receive(connection, "ChatGptResponse", json.dumps({"content": content}))
        assert _replies(connection) == [("delta", 0, "Hel"), ("delta", 3, "lo"), ("done", 5, rest)]
        _receive(connection, "ChatGptDelta", "late")
        assert _replies(connection) == []


@pytest.mark.parametrize(
    "kind, data, more, reply",
    [
        ("ChatGptResponse", {"content": "unwrapped"}, {}, ("done", 0, "unwrapped")),
        (
            "ChatGptResponse",
            "nothing",
            {},
            ("error", 0, "The data of a ChatGptResponse cannot be read."),
        ),
        (
            "ChatGptResponse",
            '{"content": 5}',
            {},
            ("error", 0, "The data of a ChatGptResponse cannot be read."),
        ),
        ("error", "why", {}, ("error", 0, "why")),
        ("error", "", {"error": "why"}, ("error", 0, "why")),
        ("error", None, {"error": "why"}, ("error", 0, "why")),
    ],
)
def test_endings(kind: str, data: Any, more: Any, reply: Any) -> None:
    connection = _connection()
    connection.ask("q", "{}", 0.0)
    _receive(connection, kind, data, **more)
    assert _replies(connection) == [reply] and not connection.busy


def test_answers_to_nobodys_question_and_unknown_messages_say_nothing() -> None:
    connection = _connection()
    connection.ask("q", "{}", 0.0)
    connection.forget("q")
    _receive(connection, "ChatGptResponse", json.dumps({"content": "x"}))
    _receive(connection, "something", {"new": 1})
    assert _replies(connection) == [] and not connection.busy


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id":1,"message":"pong"}', "{" * 9999, "\x00"])
def test_garbage_is_told_from_messages(text: str) -> None:
    with pytest.raises(wire.BadMessage):
        _connection().receive(text, 1.0)
