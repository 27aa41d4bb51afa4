"""FALLBACK_MODELS: who is asked when a model fails before its first character."""

import json
from collections.abc import Iterator

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, StartFunction, text_of
from tests.replies import DONE, HELLO, event
from tests.test_bad_input import assert_error

DOWN = Answer(status=500, error="down", headers={"Retry-After": "0"})
THREE = (DOWN, DOWN, DOWN)


@pytest.fixture(scope="module")
def second_server() -> Iterator[ModelServer]:
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def falling_back(start_function: StartFunction, second_server: ModelServer) -> Function:
    url = second_server.url.replace("127.0.0.1", "localhost")
    return start_function(
        FALLBACK_MODELS=f"small, other={url}",
        FALLBACK_KEYS="localhost=key-of-the-second-one",
        UPSTREAM_HEADERS='{"x-gateway-key": "gateway-secret-1"}',
        UPSTREAM_TIMEOUT_SECONDS="1",
    )


@pytest.fixture
def chatter(falling_back: Function, second: ModelServer, model: ModelServer) -> Client:
    return falling_back.client


@pytest.fixture
def second(second_server: ModelServer) -> ModelServer:
    second_server.reset()
    return second_server


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        THREE,
        (Answer(status=404, error="no such model"),),
        (Answer(hang=1.6),),
        (Answer(status=402, error="no credit"),),
        (Answer(raw=b'{"error":{"message":"overloaded"}}'),),
        (Answer(raw=b""),),
        (Answer(pieces=[], cut=True),),
    ],
)
def test_the_next_model_is_asked_and_named(
    chatter: Client, model: ModelServer, chat_id: str, failure: tuple[Answer, ...], stream: bool
) -> None:
    model.enqueue(*failure, Answer(pieces=["Hel", "lo"]))
    reply = chatter.say(chat_id, "x", stream=stream)
    message = reply.events[-1].data if stream else reply.json
    assert (reply.status, message["content"], message["model"]) == (200, "Hello", "small")
    assert "provider" not in message
    if stream:
        assert text_of(reply.events) == "Hello"
        assert sum(e.name == "started" for e in reply.events) == 1
    assert chatter.get(f"/{chat_id}/chat").json[-1] == message
    assert {asked.body["model"] for asked in model.requests[:-1]} == {"gpt-5.4-mini"}
    assert chatter.get("/me").json["usage"]


@pytest.mark.parametrize("stream", [False, True])
def test_another_provider_is_asked_with_its_own_key_alone(
    chatter: Client, model: ModelServer, second: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(*THREE, Answer(status=400, error="no"))
    reply = chatter.say(chat_id, "x", stream=stream)
    message = reply.events[-1].data if stream else reply.json
    assert (message["model"], message["provider"]) == ("other", "localhost")
    (asked,) = second.requests
    assert asked.body["model"] == "other"
    assert asked.headers["Authorization"] == "Bearer key-of-the-second-one"
    assert "x-gateway-key" not in asked.headers
    assert model.requests[0].headers["x-gateway-key"] == "gateway-secret-1"


def test_when_all_fail_the_last_one_is_told(
    chatter: Client, model: ModelServer, second: ModelServer, chat_id: str
) -> None:
    refusal = Answer(status=400, error="bad key-of-the-second-one, gateway-secret-1")
    model.enqueue(Answer(status=400, error="no"), Answer(status=400, error="no"))
    second.enqueue(refusal)
    reply = chatter.say(chat_id, "x")
    assert_error(reply, 502, "upstream_refused")
    assert "bad ***" in reply.json["error"]["message"]
    assert chatter.get(f"/{chat_id}/chat").json == []


def test_nobody_else_is_asked_after_the_first_character(
    chatter: Client, model: ModelServer, second: ModelServer, chat_id: str
) -> None:
    error = event({"error": {"message": "boom"}})
    model.enqueue(Answer(raw=HELLO + error + DONE, headers={"Content-Type": "text/event-stream"}))
    reply = chatter.say(chat_id, "x", stream=True)
    assert [e.name for e in reply.events] == ["started", "delta", "delta", "failed"]
    assert (len(model.requests), second.requests) == (1, [])


def test_the_headers_of_a_gateway_are_hidden_too(
    chatter: Client, model: ModelServer, second: ModelServer, chat_id: str
) -> None:
    error = json.dumps({"error": {"message": "bad key gateway-secret-1"}}).encode()
    model.enqueue(Answer(raw=HELLO + b"data: " + error + b"\n\n"))
    reply = chatter.say(chat_id, "x", stream=True)
    assert b"bad key ***" in reply.body and b"gateway-secret" not in reply.body
