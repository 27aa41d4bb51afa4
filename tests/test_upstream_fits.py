"""The request fits the server: other names, without what it refuses, where it redirects to."""

import json
from typing import Any

import pytest

from chat.core.completions import ChatRequest, encode_request
from chat.core.quirks import Quirks, first_quirks, learn
from chat.models.upstream.address import read_address
from dev.model import Answer, ModelServer
from tests.calls import request
from tests.harness import Client, Function, StartFunction
from tests.test_bad_input import assert_error

MAX_TOKENS = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
EXTRA = [
    {
        "type": "extra_forbidden",
        "loc": ["body", "stream_options", "include_usage"],
        "msg": "Extra inputs are not permitted",
        "input": True,
    }
]


def _refusal(message: object, status: int = 400, name: str = "error") -> Answer:
    body = {name: {"message": message} if name == "error" else message}
    return Answer(status=status, raw=json.dumps(body).encode())


@pytest.fixture(scope="module")
def capped(start_function: StartFunction) -> Function:
    return start_function(MAX_OUTPUT_TOKENS="50")


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_is_renamed_once_and_remembered_for_the_model(
    capped: Function, model: ModelServer, chat_id: str, stream: bool
) -> None:
    client, name = capped.client, f"gpt-5-{stream}"
    model.enqueue(_refusal(MAX_TOKENS))
    for _ in range(2):
        reply = client.say(chat_id, "x", stream=stream, model=name, system="Be brief.")
        assert reply.status == 200
    sent = [asked.body for asked in model.requests]
    assert [("max_tokens" in body, "max_completion_tokens" in body) for body in sent] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert sent[1] == {k: v for k, v in sent[0].items() if k != "max_tokens"} | {
        "max_completion_tokens": 50
    }
    client.say(chat_id, "x", model="another")
    assert model.requests[-1].body["max_tokens"] == 50
    assert f"{name} is asked again" in capped.log.read_text()


def test_a_stream_is_asked_for_without_usage_where_that_is_refused(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(_refusal(EXTRA, 422, "detail"))
    for _ in range(2):
        reply = client.say(chat_id, "x", stream=True, model="strict")
        assert reply.events[-1].name == "completed"
        assert reply.events[-1].data["usage"] is None
    assert ["stream_options" in asked.body for asked in model.requests] == [True, False, False]


def test_two_refusals_are_met_one_after_the_other_but_no_third_one(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    temperature = "Unsupported value: 'temperature' does not support 0.5 with this model."
    role = "System role not supported"
    model.enqueue(_refusal(temperature), _refusal(role))
    reply = client.say(chat_id, "x", model="o1", temperature=0.5, system="Be brief.")
    assert reply.status == 200
    assert "temperature" not in model.requests[1].body
    assert model.requests[2].body["messages"] == [{"role": "user", "content": "Be brief.\n\nx"}]
    model.enqueue(_refusal(temperature), _refusal(role), _refusal("no"))
    reply = client.say(f"{chat_id}-2", "x", model="o2", temperature=0.5, system="Be brief.")
    assert_error(reply, 502, "upstream_refused")
    assert len(model.requests) == 6


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 5000. This model supports at most 4096 completion tokens",
        "Unsupported image",
        "max_tokens must be positive",
    ],
)
def test_another_refusal_is_told_at_once(
    capped: Function, model: ModelServer, chat_id: str, message: str
) -> None:
    model.enqueue(_refusal(message))
    reply = capped.client.say(chat_id, "x")
    assert_error(reply, 502, "upstream_refused")
    assert message in reply.json["error"]["message"] and len(model.requests) == 1


ASKED = ChatRequest("m", request().messages, stream=True, temperature=0.5, max_tokens=9)
OPENAI = first_quirks("api.openai.com")
LEARNED: list[tuple[Quirks, Any, dict[str, Any]]] = [
    (Quirks(), MAX_TOKENS, {"max_tokens": "max_completion_tokens"}),
    (OPENAI, "Unknown field: max_completion_tokens", {"max_tokens": "max_tokens"}),
    (OPENAI, "Unrecognized request argument supplied: store", {"own_options": False}),
    (OPENAI, "Unknown parameter: 'stream_options.include_obfuscation'.", {"own_options": False}),
    (Quirks(), "property 'stream_options' is unsupported", {"usage": False}),
    (Quirks(), "Only the default temperature (1) is supported", {"temperature": False}),
    (Quirks(), "`temperature` is deprecated for this model.", {"temperature": False}),
    (Quirks(), "the prompt mentions max_tokens", {}),
]


@pytest.mark.parametrize("quirks, message, changed", LEARNED)
def test_a_refusal_teaches_what_it_names(
    quirks: Quirks, message: object, changed: dict[str, Any]
) -> None:
    sent = encode_request(ASKED, quirks)
    learned = learn(quirks, sent, json.dumps({"error": message}).encode())
    known = {name: getattr(learned, name) for name in Quirks.__struct_fields__}
    before = {name: getattr(quirks, name) for name in Quirks.__struct_fields__}
    assert known == before | changed


@pytest.mark.parametrize(
    "host, name, own",
    [
        ("api.openai.com", "max_completion_tokens", True),
        ("us.api.openai.com", "max_completion_tokens", True),
        ("eu.api.openai.com", "max_completion_tokens", True),
        ("me.openai.azure.com", "max_completion_tokens", False),
        ("me.services.ai.azure.com", "max_completion_tokens", False),
        ("api.openai.com.evil.example", "max_tokens", False),
        ("api.mistral.ai", "max_tokens", False),
    ],
)
def test_known_hosts_are_asked_in_their_own_way_at_once(host: str, name: str, own: bool) -> None:
    body = json.loads(encode_request(ASKED, first_quirks(host)))
    assert name in body and body.get("store", True) is not own
    assert body["stream_options"].get("include_obfuscation", True) is not own


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_origin_is_followed(
    client: Client, model: ModelServer, chat_id: str, status: int, stream: bool
) -> None:
    moved = Answer(status=status, raw=b"", headers={"Location": "/v2/chat/completions?a=b"})
    model.enqueue(moved)
    assert client.say(chat_id, "x", stream=stream).status == 200
    assert [asked.path for asked in model.requests] == [
        "/v1/chat/completions",
        "/v2/chat/completions?a=b",
    ]
    assert model.requests[0].body == model.requests[1].body
    model.enqueue(moved, moved)
    assert_error(client.say(f"{chat_id}-2", "x", stream=stream), 502, "upstream_refused")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_elsewhere_is_told_and_gets_no_key(
    client: Client, model: ModelServer, chat_id: str, status: int
) -> None:
    where = "https://elsewhere.example/v1/chat/completions"
    model.enqueue(Answer(status=status, raw=b"", headers={"Location": where}))
    reply = client.say(chat_id, "x")
    assert_error(reply, 502, "upstream_refused")
    assert where in reply.json["error"]["message"] and len(model.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_any_status_of_success_brings_an_answer(
    client: Client, model: ModelServer, chat_id: str, stream: bool
) -> None:
    whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    model.enqueue(Answer(status=201, raw=json.dumps(whole).encode()))
    reply = client.say(chat_id, "x", stream=stream)
    last = reply.events[-1].data if stream else reply.json
    assert last["content"] == "Hello"


@pytest.mark.parametrize(
    "path, hint",
    [("/v1/chat/completions", "must end before /chat/completions"), ("", "may lack /v1")],
)
def test_a_wrong_base_url_is_told_at_the_first_refusal(
    start_function: StartFunction, model: ModelServer, chat_id: str, path: str, hint: str
) -> None:
    base = model.url.removesuffix("/v1") + path
    function = start_function(OPENAI_BASE_URL=base)
    model.enqueue(Answer(status=404, raw=b"404 page not found"))
    reply = function.client.say(chat_id, "x")
    assert_error(reply, 502, "upstream_refused")
    message = reply.json["error"]["message"]
    assert "404 page not found" in message and hint in message
    assert hint in function.log.read_text()


def test_an_address_is_taken_apart() -> None:
    address = read_address("https://me.openai.azure.com/openai/deployments/x?api-version=1&b=")
    assert address.path == "/openai/deployments/x/chat/completions?api-version=1&b="
    assert address.base_url == "https://me.openai.azure.com/openai/deployments/x"
    assert (address.query, address.hint) == ({"api-version": "1"}, "")
    assert read_address("http://[::1]:11434/v1").authority == "[::1]:11434"
