"""What model servers really send, as clients of the function see it. All kinds: test_completions.py."""

import pytest

from dev.model import Answer, ModelServer
from tests.harness import UPSTREAM_KEY, Client, text_of
from tests.replies import DONE, HELLO, STOP, chunk, event, whole
from tests.test_bad_input import assert_error

SSE = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}


def _served(raw: bytes, headers: dict[str, str]) -> Answer:
    return Answer(raw=raw, headers=headers)


@pytest.mark.parametrize("stream", [True, False])
def test_the_chat_goes_on_after_an_empty_answer(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(
        _served(chunk(None, "length") + DONE, SSE)
        if stream
        else _served(whole(None, "length"), JSON)
    )
    assert client.say(chat_id, "one", stream=stream).status == 200
    (_, answer) = client.get(f"/{chat_id}/chat").json
    assert (answer["content"], answer["finish_reason"], answer["status"]) == (
        "",
        "length",
        "completed",
    )
    assert client.say(chat_id, "two", stream=stream).status == 200
    assert model.requests[-1].body["messages"] == [{"role": "user", "content": "one\n\ntwo"}]


def test_an_error_in_mid_stream_is_told_and_what_was_said_is_kept(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    error = {"error": {"code": 429, "message": "Rate limit exceeded"}}
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    model.enqueue(_served(chunk("Hel") + event({**error, "choices": [choice]}) + DONE, SSE))
    events = client.say(chat_id, "x", stream=True).events
    assert [e.name for e in events] == ["started", "delta", "failed"]
    assert "Rate limit exceeded" in events[-1].data["error"]["message"]
    answer = client.get(f"/{chat_id}/chat").json[1]
    assert (answer["content"], answer["status"], answer["finish_reason"]) == (
        "Hel",
        "incomplete",
        "error",
    )


@pytest.mark.parametrize("stream", [True, False])
def test_what_arrives_is_read_as_what_it_is(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    model.enqueue(_served(whole("Hello"), JSON) if stream else _served(HELLO + STOP + DONE, SSE))
    reply = client.say(chat_id, "x", stream=stream)
    said = text_of(reply.events) if stream else reply.json["content"]
    assert (reply.status, said) == (200, "Hello")
    assert client.get(f"/{chat_id}/chat").json[1]["content"] == "Hello"


@pytest.mark.parametrize("stream", [True, False])
def test_the_key_in_an_answer_of_200_is_not_shown(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    error = {"error": {"message": f"Incorrect API key provided: {UPSTREAM_KEY}"}}
    model.enqueue(_served(event(error) if stream else event(error)[6:], SSE if stream else JSON))
    reply = client.say(chat_id, "x", stream=stream)
    assert b"API key provided: ***" in reply.body and UPSTREAM_KEY[3:].encode() not in reply.body
    if not stream:
        assert_error(reply, 502, "upstream_refused")
    late = client.get(f"/{chat_id}/chat/stream")
    assert UPSTREAM_KEY[3:].encode() not in late.body


def test_thinking_is_streamed_to_those_who_ask_and_stored_for_nobody(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    thinking = event({"choices": [{"delta": {"reasoning_content": "plan"}}]})
    block = chunk("<thi") + chunk("nk>plan</think>\n\n")
    for asks, raw in [(True, thinking), (True, block), (False, thinking), (False, block)]:
        model.enqueue(_served(raw + HELLO + STOP + DONE, SSE))
        events = client.say(chat_id, "x", stream=True, reasoning=asks).events
        names = ["started", *["reasoning"] * asks, "delta", "delta", "completed"]
        assert [e.name for e in events] == names
        if asks:
            assert (events[1].data, events[1].id) == ({"text": "plan"}, "")
        assert (text_of(events), events[-1].data["content"]) == ("Hello", "Hello")
    assert [m["content"] for m in client.get(f"/{chat_id}/chat").json[1::2]] == ["Hello"] * 4
    assert "plan" not in str(model.requests[-1].body["messages"])


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_left_open_after_the_last_word_holds_up_nobody(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    raw = HELLO + chunk(None, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})
    model.enqueue(_served(raw, {**SSE, "Content-Length": "100000"}))
    reply = client.say(chat_id, "x", stream=stream)
    last = reply.events[-1].data if stream else reply.json
    assert (last["content"], last["status"], last["usage"]["total_tokens"]) == (
        "Hello",
        "completed",
        5,
    )
    assert len(model.requests) == 1
