"""The Responses and Conversations APIs by the official SDK and by hand."""

import json
import threading
from typing import Any

import openai
import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function
from tests.test_openai_chat import CALL, asked, calls_tool, user

TOOL: Any = {"type": "function", "name": "weather", "parameters": {}, "strict": True}


@pytest.fixture
def sdk(function: Function, model: ModelServer, chat_id: str) -> openai.OpenAI:
    base = f"{function.client.base}/{chat_id}/v1"
    return openai.OpenAI(base_url=base, api_key="none", max_retries=0)


@pytest.fixture
def bare(function: Function, model: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{function.client.base}/v1", api_key="none", max_retries=0)


def numbers(events: list[Any]) -> list[int]:
    return [event.sequence_number for event in events]


def text_of(events: list[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def test_a_response_is_a_turn_of_its_chat(
    sdk: openai.OpenAI, client: Client, model: ModelServer, chat_id: str
) -> None:
    made = sdk.responses.create(model="m", input="Hello", instructions="Be brief.")
    assert (made.status, made.object) == ("completed", "response") and made.output_text
    assert made.usage and made.usage.total_tokens
    assert asked(model)[0] == {"role": "system", "content": "Be brief."}
    sdk.responses.create(model="m", input="Again")
    assert [m["role"] for m in asked(model)] == ["user", "assistant", "user"]
    assert [m["content"] for m in client.get(f"/{chat_id}/chat").json[::2]] == ["Hello", "Again"]
    assert sdk.responses.retrieve(made.id).output_text == made.output_text
    assert [i.type for i in sdk.responses.input_items.list(made.id)] == ["message"]


@pytest.mark.parametrize("named", ["conversation", "previous_response_id"])
def test_a_response_follows_the_one_it_names(
    bare: openai.OpenAI, model: ModelServer, named: str
) -> None:
    name = bare.conversations.create(metadata={"a": "b"}).id if named == "conversation" else ""
    for text in ("one", "two", "three"):
        more: Any = {named: name} if name else {}
        made = bare.responses.create(model="m", input=text, **more)
        name = name if named == "conversation" else made.id
    assert [m["content"] for m in asked(model)[::2]] == ["one", "two", "three"]


def test_a_response_may_be_followed_twice(bare: openai.OpenAI, model: ModelServer) -> None:
    first = bare.responses.create(model="m", input="one")
    for text in ("two", "other"):
        bare.responses.create(model="m", input=text, previous_response_id=first.id)
    assert [m["content"] for m in asked(model)[::2]] == ["one", "other"]


def test_unknown_names_are_not_found(bare: openai.OpenAI, client: Client) -> None:
    for more in ({"previous_response_id": "resp_x"}, {"conversation": "conv_x"}):
        reply = client.post("/v1/responses", {"input": "x", **more})
        assert reply.status == 404, reply.body
    for path in ("resp_x", "resp_1" + "a" * 24 + "_chat", "msg_1"):
        assert client.get(f"/v1/responses/{path}").status == 404


def test_a_tool_call_and_its_result(bare: openai.OpenAI, model: ModelServer) -> None:
    model.enqueue(calls_tool(), Answer(["It is sunny."]))
    made = bare.responses.create(model="m", input="Weather?", tools=[TOOL])
    assert model.requests[-1].body["tools"][0]["function"]["strict"] is True
    call: Any = made.output[0]
    assert (call.type, call.call_id, call.name) == ("function_call", "call_1", "weather")
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    made = bare.responses.create(model="m", previous_response_id=made.id, input=[result])
    assert made.output_text == "It is sunny."
    assert asked(model)[1]["tool_calls"] == [CALL]
    assert asked(model)[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def test_items_may_be_named_instead_of_sent(
    sdk: openai.OpenAI, client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(calls_tool(), Answer(["Sunny."]))
    first = sdk.responses.create(model="m", input="Weather?", tools=[TOOL])
    sent: list[Any] = [
        {"role": "user", "content": "Weather?"},
        {"type": "item_reference", "id": first.output[0].id},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    sdk.responses.create(model="m", input=sent)
    assert asked(model)[1]["tool_calls"] == [CALL] and len(asked(model)) == 3
    assert len(client.get(f"/{chat_id}/chat").json) == 4
    unknown: Any = [{"type": "item_reference", "id": "msg_none"}]
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="m", input=unknown)


def test_a_stream_has_the_events_in_their_order(sdk: openai.OpenAI, model: ModelServer) -> None:
    model.enqueue(Answer(["Hel", "lo"]))
    events = list(sdk.responses.create(model="m", input="x", stream=True))
    assert [e.type.removeprefix("response.") for e in events] == (
        "created in_progress output_item.added content_part.added output_text.delta"
        " output_text.delta output_text.done content_part.done output_item.done completed"
    ).split()
    assert numbers(events) == [0, 1, 2, 3, 6, 8, 9, 10, 11, 12]
    model.enqueue(Answer(["Hel", "lo"]))
    with sdk.responses.stream(model="m", input="x") as stream:
        assert list(stream)[-1].type == "response.completed"
        assert stream.get_final_response().output_text == "Hello"


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_is_followed_from_any_number(
    sdk: openai.OpenAI, model: ModelServer, background: bool
) -> None:
    model.enqueue(Answer(["Hel", "lo ", "all"]))
    events = list(sdk.responses.create(model="m", input="x", stream=True, background=background))
    response: Any = events[0]
    if background:
        assert [e.type for e in events[:2]] == ["response.created", "response.queued"]
        assert response.response.status == "queued"
    again = list(sdk.responses.retrieve(response.response.id, stream=True))
    assert text_of(again) == "Hello all" and set(numbers(events)) <= set(numbers(again))
    for after in range(again[-1].sequence_number):
        rest = list(sdk.responses.retrieve(response.response.id, stream=True, starting_after=after))
        assert rest[0].sequence_number > after
        assert [e.sequence_number for e in rest][-1] == again[-1].sequence_number
        seen = text_of([e for e in again if e.sequence_number <= after])
        assert seen + text_of(rest) == "Hello all"


def test_a_response_in_the_background_goes_on_and_is_polled(
    bare: openai.OpenAI, model: ModelServer, gate: threading.Event
) -> None:
    model.enqueue(Answer(["Hel", "lo"], gate=gate))
    made = bare.responses.create(model="m", input="x", background=True)
    assert made.status == "in_progress" and made.output == []
    assert bare.responses.retrieve(made.id).status == "in_progress"
    followed = bare.responses.retrieve(made.id, stream=True)
    gate.set()
    assert text_of(list(followed)) == "Hello"
    assert bare.responses.retrieve(made.id).output_text == "Hello"
    with pytest.raises(openai.BadRequestError):
        bare.responses.cancel(made.id)


def test_a_response_is_cancelled(
    bare: openai.OpenAI, model: ModelServer, gate: threading.Event
) -> None:
    model.enqueue(Answer(["Hel", "lo"], gate=gate))
    stream = bare.responses.create(model="m", input="x", background=True, stream=True)
    events: list[Any] = [next(stream)]
    while events[-1].type != "response.output_text.delta":
        events.append(next(stream))
    response_id = events[0].response.id
    assert bare.responses.cancel(response_id).status == "cancelled"
    gate.set()
    events += list(stream)
    assert (events[-1].type, events[-1].response.status) == ("response.completed", "cancelled")
    assert bare.responses.cancel(response_id).status == "cancelled"


def test_a_failed_response_says_so(bare: openai.OpenAI, model: ModelServer) -> None:
    model.enqueue(Answer(["Hel", "lo"], cut=True))
    events: list[Any] = list(bare.responses.create(model="m", input="x", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    assert events[-1].response.output_text == "Hello"


def test_a_response_without_store_leaves_nothing(
    bare: openai.OpenAI, client: Client, model: ModelServer
) -> None:
    before = client.get("/chats").json["data"]
    made = bare.responses.create(model="m", input="x", store=False)
    assert made.output_text and client.get("/chats").json["data"] == before
    kept = bare.responses.create(model="m", input="x")
    bare.responses.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        bare.responses.retrieve(kept.id)
    assert client.get("/chats").json["data"] == before


def test_a_conversation_is_a_chat_with_items(
    bare: openai.OpenAI, client: Client, model: ModelServer
) -> None:
    items: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1"}]
    made = bare.conversations.create(items=items, metadata={"topic": "x"})
    assert made.metadata == {"topic": "x"}
    bare.responses.create(model="m", input="two", conversation=made.id)
    assert [m["content"] for m in asked(model)] == ["one", "1", "two"]
    listed: list[Any] = list(bare.conversations.items.list(made.id, order="asc", limit=2))
    assert [i.role for i in listed] == ["user", "assistant", "user", "assistant"]
    assert bare.conversations.items.retrieve(listed[1].id, conversation_id=made.id) == listed[1]
    bare.conversations.items.delete(listed[0].id, conversation_id=made.id)
    left: list[Any] = list(bare.conversations.items.list(made.id, order="asc"))
    assert [i.id for i in left] == [i.id for i in listed[1:]]
    assert bare.conversations.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert bare.conversations.delete(made.id).deleted
    assert client.get(f"/{made.id}").status == 404


def test_structured_output_goes_both_ways(bare: openai.OpenAI, model: ModelServer) -> None:
    schema: Any = {"type": "json_schema", "name": "City", "schema": {"type": "object"}}
    model.enqueue(Answer(['{"name":"Paris"}']))
    made = bare.responses.create(model="m", input="A city", text={"format": schema})
    assert json.loads(made.output_text) == {"name": "Paris"}
    sent = model.requests[-1].body["response_format"]
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": schema["schema"]},
    }


def test_whole_histories_are_not_doubled(
    sdk: openai.OpenAI, client: Client, model: ModelServer, chat_id: str
) -> None:
    items: list[Any] = []
    for text in ("one", "two", "three"):
        items.append(user(text))
        items += sdk.responses.create(model="m", input=items).output
    assert [m["content"] for m in client.get(f"/{chat_id}/chat").json[::2]] == [
        "one",
        "two",
        "three",
    ]
    assert len(asked(model)) == 5
