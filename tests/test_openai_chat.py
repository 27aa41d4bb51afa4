"""Chat Completions by the official SDK and by hand: turns, histories, tools, errors."""

import json
from typing import Any

import openai
import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, StartFunction


@pytest.fixture
def sdk(function: Function, model: ModelServer, chat_id: str) -> openai.OpenAI:
    base = f"{function.client.base}/{chat_id}/v1"
    return openai.OpenAI(base_url=base, api_key="none", max_retries=0)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def asked(model: ModelServer, at: int = -1) -> list[Any]:
    messages: list[Any] = model.requests[at].body["messages"]
    return messages


TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
}


def calls_tool(call: Any = CALL) -> Answer:
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return Answer(raw=json.dumps({"choices": [choice], "usage": usage}).encode())


def test_a_chat_remembers_whether_the_newest_or_everything_is_sent(
    sdk: openai.OpenAI, client: Client, model: ModelServer, chat_id: str
) -> None:
    messages = [user("My name is Ada.")]
    first = sdk.chat.completions.create(model="m", messages=messages)
    assert first.choices[0].finish_reason == "stop" and first.usage
    sdk.chat.completions.create(model="m", messages=[user("I live in Paris.")])
    assert [m["content"] for m in asked(model)][::2] == ["My name is Ada.", "I live in Paris."]
    history = client.get(f"/{chat_id}/chat").json
    again: list[Any] = [{"role": m["role"], "content": m["content"]} for m in history]
    sdk.chat.completions.create(model="m", messages=[*again, user("Who am I?")])
    assert asked(model) == [*again, user("Who am I?")]
    stored = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in stored[::2]] == [
        "My name is Ada.",
        "I live in Paris.",
        "Who am I?",
    ]


def test_a_stream_has_what_every_client_needs(sdk: openai.OpenAI, model: ModelServer) -> None:
    model.enqueue(Answer(["Hel", "lo"]))
    options: Any = {"include_usage": True}
    stream = sdk.chat.completions.create(
        model="m", messages=[user("Hi")], stream=True, stream_options=options
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage and chunks[-1].usage.total_tokens
    assert {c.object for c in chunks} == {"chat.completion.chunk"} and len(
        {c.id for c in chunks}
    ) == 1


@pytest.mark.parametrize("newest_only", [True, False])
def test_a_tool_is_called_and_its_result_goes_on(
    sdk: openai.OpenAI, client: Client, model: ModelServer, chat_id: str, newest_only: bool
) -> None:
    model.enqueue(calls_tool(), Answer(["It is sunny."]), Answer(["You asked about Paris."]))
    question = user("Weather in Paris?")
    first = sdk.chat.completions.create(model="m", messages=[question], tools=TOOLS)
    message = first.choices[0].message
    assert (message.content, first.choices[0].finish_reason) == (None, "tool_calls")
    assert message.tool_calls and message.tool_calls[0].to_dict() == CALL
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    sent = [result] if newest_only else [question, message, result]
    sdk.chat.completions.create(model="m", messages=sent, tools=TOOLS)
    assert [m["role"] for m in asked(model)] == ["user", "assistant", "tool"]
    assert asked(model)[1]["tool_calls"] == [CALL]
    client.say(chat_id, "What did I ask?")
    assert [m["role"] for m in asked(model)] == ["user", "assistant", "tool", "assistant", "user"]
    history = client.get(f"/{chat_id}/chat").json
    assert history[1]["tool_calls"] == [CALL] and history[2]["messages"] == [result]


def test_a_call_without_its_result_is_in_no_prompt(sdk: openai.OpenAI, model: ModelServer) -> None:
    model.enqueue(calls_tool())
    sdk.chat.completions.create(model="m", messages=[user("Weather?")], tools=TOOLS)
    sdk.chat.completions.create(model="m", messages=[user("Never mind.")])
    assert [m["role"] for m in asked(model)] == ["user", "user"] or len(asked(model)) == 1
    assert "tool_calls" not in json.dumps(asked(model))


def test_calls_are_streamed_as_they_come(sdk: openai.OpenAI, model: ModelServer) -> None:
    deltas = [
        {"role": "assistant", "content": None},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "w", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
    ]
    events = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    raw = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
    model.enqueue(Answer(raw=raw.encode(), headers={"Content-Type": "text/event-stream"}))
    with sdk.chat.completions.stream(model="m", messages=[user("x")], tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls and calls[0].id == "c1"
    assert (calls[0].function.name, calls[0].function.arguments) == ("w", '{"a":1}')


def test_without_a_chat_nothing_is_kept(client: Client, model: ModelServer) -> None:
    before = client.get("/chats").json["data"]
    sent = [
        {"role": "system", "content": "s"},
        user("a"),
        {"role": "assistant", "content": "b"},
        user("c"),
    ]
    made = client.post("/v1/chat/completions", {"messages": sent})
    assert made.status == 200 and made.json["choices"][0]["message"]["content"]
    assert asked(model) == sent
    assert client.get("/chats").json["data"] == before


def test_metadata_names_a_chat(client: Client, model: ModelServer, chat_id: str) -> None:
    for text in ("one", "two"):
        body = {"messages": [user(text)], "metadata": {"chat_id": chat_id, "topic": "x"}}
        assert client.post("/v1/chat/completions", body).status == 200
    history = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in history[::2]] == ["one", "two"]
    assert history[0]["metadata"] == {"topic": "x"}


def test_an_earlier_point_becomes_a_branch(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    for text in ("one", "two"):
        client.say(chat_id, text)
    history = client.get(f"/{chat_id}/chat").json
    sent = [{"role": m["role"], "content": m["content"]} for m in history[:2]] + [user("other")]
    assert client.post(f"/{chat_id}/v1/chat/completions", {"messages": sent}).status == 200
    branch = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in branch[::2]] == ["one", "other"]
    assert branch[2]["parent_id"] == history[1]["id"]


@pytest.mark.parametrize(
    "field, value",
    [
        ("n", 2),
        ("logprobs", True),
        ("service_tier", "priority"),
        ("prediction", {"type": "content"}),
        ("wish", 1),
    ],
)
def test_what_costs_more_is_refused(
    client: Client, model: ModelServer, field: str, value: Any
) -> None:
    reply = client.post("/v1/chat/completions", {"messages": [user("x")], field: value})
    assert (reply.status, reply.code) == (400, "unsupported_parameter")
    assert reply.json["error"]["param"] == field and not model.requests


def test_parameters_go_to_the_model_as_they_came(client: Client, model: ModelServer) -> None:
    passed = {
        "top_p": 0.5,
        "seed": 7,
        "stop": ["a"],
        "reasoning_effort": "low",
        "tools": TOOLS,
        "tool_choice": "auto",
    }
    left = {
        "n": 1,
        "service_tier": "auto",
        "store": True,
        "user": "u",
        "logprobs": False,
        "stop_": None,
    }
    reply = client.post("/v1/chat/completions", {"messages": [user("x")]} | passed | left)
    assert reply.status == 200, reply.body
    body = model.requests[-1].body
    assert {name: body.get(name) for name in passed} == passed
    assert not set(left) & set(body)


def test_a_setting_allows_what_changes_the_price(
    start_function: StartFunction, model: ModelServer
) -> None:
    one = start_function(ALLOWED_PARAMETERS="service_tier, tools.web_search").client
    tools = [{"type": "web_search"}]
    body = {"messages": [user("x")], "service_tier": "flex", "tools": tools}
    assert one.post("/v1/chat/completions", body).status == 200
    assert model.requests[-1].body["service_tier"] == "flex"
    assert model.requests[-1].body["tools"] == tools


def test_errors_have_the_codes_that_clients_act_upon(
    start_function: StartFunction, model: ModelServer
) -> None:
    one = start_function(MAX_PROMPT_TOKENS="50").client
    reply = one.post("/v1/chat/completions", {"messages": [user("long " * 200)]})
    assert (reply.status, reply.code) == (400, "context_length_exceeded")
    assert "maximum context length" in reply.json["error"]["message"]
    model.enqueue(Answer(status=400, error="no"))
    refused = one.post("/v1/chat/completions", {"messages": [user("x")]})
    assert (refused.status, refused.code) == (502, "upstream_refused")
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json["error"]["type"] == "server_error"


def test_a_stream_that_breaks_off_ends_with_an_error(
    sdk: openai.OpenAI, model: ModelServer
) -> None:
    model.enqueue(Answer(["Hel", "lo"], cut=True))
    text = ""
    with pytest.raises(openai.APIError):
        for chunk in sdk.chat.completions.create(model="m", messages=[user("Hi")], stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "Hello"


def test_models_are_listed(client: Client, start_function: StartFunction) -> None:
    own = start_function(ALLOWED_MODELS="b,a", GPT_MODEL="g").client
    for prefix in ("", "/some"):
        assert [m["id"] for m in own.get(f"{prefix}/v1/models").json["data"]] == ["g", "a", "b"]
        assert own.get(f"{prefix}/v1/models/a").json["object"] == "model"
        assert own.get(f"{prefix}/v1/models/x").code == "model_not_found"


def test_what_is_not_there_is_said_once(client: Client) -> None:
    for path in ("/v1/responses/input_tokens", "/c/v1/responses/compact"):
        reply = client.post(path, {})
        assert (reply.status, reply.code) == (404, "unsupported_endpoint")
        assert reply.headers["x-should-retry"] == "false"
