"""The model API refuses, fails, stalls and breaks off: the documented error, nothing half stored."""

import json
import socket
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import UPSTREAM_KEY, Client, Function, Reply
from tests.test_bad_input import assert_error


def _nothing_is_stored(client: Client, chat_id: str) -> bool:
    return client.get(f"/{chat_id}/chat").json == [] and client.get(f"/{chat_id}").status == 404


def _error_of(reply: Reply) -> Any:
    """A stream that fails at once has a status of its own, if it fails before its first byte."""
    if reply.status != 200:
        assert_error(reply, 502, "upstream_refused")
        return reply.json["error"]
    assert [e.name for e in reply.events] == ["started", "failed"]
    assert set(reply.events[-1].data) == {"error"}
    return reply.events[-1].data["error"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_refusal_is_passed_on_in_its_own_words(
    client: Client, model: ModelServer, chat_id: str, status: int, stream: bool
) -> None:
    model.enqueue(Answer(status=status, error="The model `x` does not exist"))
    reply = client.say(chat_id, "x", stream=stream)
    assert_error(reply, 502, "upstream_refused")
    assert "The model `x` does not exist" in reply.json["error"]["message"]
    assert _nothing_is_stored(client, chat_id) and len(model.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_rejected_key_is_not_shown(
    client: Client, model: ModelServer, function: Function, chat_id: str, stream: bool
) -> None:
    model.enqueue(Answer(status=401, error=f"Incorrect API key provided: {UPSTREAM_KEY}"))
    model.enqueue(Answer(status=400, error=f"Bad header Bearer {UPSTREAM_KEY} or sk-test***cdef00"))
    for _ in range(2):
        reply = client.say(chat_id, "x", stream=stream)
        assert_error(reply, 502, "upstream_refused")
        assert b"sk-" not in reply.body and UPSTREAM_KEY[8:].encode() not in reply.body
    assert UPSTREAM_KEY not in function.log.read_text()
    assert _nothing_is_stored(client, chat_id)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_failure_is_tried_again_and_then_told(
    client: Client, model: ModelServer, chat_id: str, status: int, stream: bool
) -> None:
    failure = Answer(status=status, error="overloaded", headers={"Retry-After": "0"})
    model.enqueue(failure, failure)
    assert client.say(chat_id, "x", stream=stream).status == 200
    assert len(model.requests) == 3
    model.enqueue(failure, failure, failure)
    reply = client.say(f"{chat_id}-2", "x", stream=stream)
    assert_error(reply, 503, "upstream_unavailable")
    assert int(reply.headers["Retry-After"]) >= 1
    assert "overloaded" in reply.json["error"]["message"]
    assert len(model.requests) == 6
    assert _nothing_is_stored(client, f"{chat_id}-2")


def test_a_wait_that_is_too_long_is_not_waited_for(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=429, error="slow down", headers={"Retry-After": "100"}))
    reply = client.say(chat_id, "x")
    assert_error(reply, 503, "upstream_unavailable")
    assert int(reply.headers["Retry-After"]) >= 100 and len(model.requests) == 1


def test_a_model_api_that_is_down_is_told(start_function: Any, chat_id: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        client = start_function(OPENAI_BASE_URL=url).client
        for stream in (False, True):
            assert_error(client.say(chat_id, "x", stream=stream), 503, "upstream_unavailable")
        assert _nothing_is_stored(client, chat_id)


def test_silence_is_a_timeout(client: Client, model: ModelServer, chat_id: str) -> None:
    model.enqueue(Answer(hang=1.6), Answer(hang=1.6))
    assert_error(client.say(chat_id, "x"), 504, "upstream_timeout")
    events = client.say(chat_id, "x", stream=True).events
    assert [e.name for e in events if e.name != ":"] == ["started", "failed"]
    assert events[-1].data["error"]["code"] == "upstream_timeout"
    assert sum(e.name == ":" for e in events) >= 2, "keep-alives went out"
    assert _nothing_is_stored(client, chat_id)


RAW = [
    b"",
    b"<html>502</html>",
    b"null",
    b"[]",
    b'{"choices":',
    b'{"choices":[]}',
    b'{"choices":"x"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("raw", RAW)
def test_an_answer_that_cannot_be_read_stores_nothing(
    client: Client, model: ModelServer, chat_id: str, raw: bytes
) -> None:
    model.enqueue(Answer(raw=raw), Answer(raw=b"data: " + raw + b"\n\n"))
    assert_error(client.say(chat_id, "x"), 502, "upstream_refused")
    assert _error_of(client.say(chat_id, "x", stream=True))["code"] == "upstream_refused"
    assert _nothing_is_stored(client, chat_id)


def test_an_unstreamed_answer_that_breaks_off_stores_nothing(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["never"], cut=True))
    assert_error(client.say(chat_id, "x"), 502, "upstream_refused")
    assert _nothing_is_stored(client, chat_id)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pieces=["half ", "an "], cut=True),
        Answer(pieces=["half ", "an "], finish_reason=None, done=False),
    ],
)
def test_a_streamed_answer_that_breaks_off_is_stored_as_incomplete(
    client: Client, model: ModelServer, chat_id: str, answer: Answer
) -> None:
    model.enqueue(answer)
    events = client.say(chat_id, "x", stream=True).events
    assert [e.name for e in events] == ["started", "delta", "delta", "failed"]
    failed = events[-1].data
    assert failed["error"]["code"] == "upstream_refused"
    assert (failed["message"]["status"], failed["message"]["content"]) == ("incomplete", "half an ")
    history = client.get(f"/{chat_id}/chat").json
    assert [m["role"] for m in history] == ["user", "assistant"] and history[1] == failed["message"]


def test_an_error_inside_a_stream_is_an_event(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    error = json.dumps({"error": {"message": f"boom {UPSTREAM_KEY}"}}).encode()
    model.enqueue(
        Answer(raw=b"data: " + error + b"\n\n", headers={"Content-Type": "text/event-stream"})
    )
    reply = client.say(chat_id, "x", stream=True)
    assert "boom" in _error_of(reply)["message"]
    assert UPSTREAM_KEY.encode() not in reply.body


def test_no_key_of_ours_is_in_redis_or_in_a_log(redis_server: RedisServer, logs: Any) -> None:
    redis = redis_server.client()
    for key in redis.scan_iter():
        assert UPSTREAM_KEY.encode() not in redis.dump(key)
    assert UPSTREAM_KEY not in "".join(path.read_text() for path in logs.iterdir())
