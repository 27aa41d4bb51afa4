"""Where model servers say that something went wrong, cut at every byte; and that no key is told."""

import json
import time

import pytest

from chat.core.refusals import describe_error
from tests.replies import DONE, HELLO, KEY, chunk, event, read, read_cut

RATE = {"code": 429, "message": "Rate limit exceeded"}
OPENROUTER = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}
RAW = '{"error":{"message":"context window exceeded"}}'
UPSTREAM = {"message": "Provider returned error", "metadata": {"raw": RAW, "provider_name": "x"}}
FASTAPI = [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]

# An error as a JSON document, and a word of the reason that is told.
ERRORS = {
    "openai": (
        {"error": {"message": "Rate limit exceeded", "type": "x", "code": None}},
        "Rate limit",
    ),
    "text": ({"error": "Unexpected endpoint or method."}, "Unexpected endpoint"),
    "openrouter": ({"error": RATE, **OPENROUTER}, "Rate limit"),
    "openrouter in the choice": (
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error", "error": RATE}]},
        "Rate limit",
    ),
    "a finish reason alone": (OPENROUTER, "no reason given"),
    "deepseek": (
        {"choices": [{"delta": {}, "finish_reason": "insufficient_system_resource"}]},
        "no reason given",
    ),
    "raw of the provider": ({"error": UPSTREAM}, "context window exceeded"),
    "vllm": ({"object": "error", "message": "CUDA out of memory", "code": 500}, "CUDA"),
    "gemini": ([{"error": {"code": 400, "message": "API key not valid."}}], "not valid"),
    "fastapi": ({"detail": FASTAPI}, "body.messages: Field required"),
    "fastapi text": ({"detail": "Not Found"}, "Not Found"),
    "anthropic": ({"type": "error", "error": {"type": "x", "message": "Overloaded"}}, "Overloaded"),
    "cloudflare": (
        {"success": False, "errors": [{"code": 7003, "message": "No route"}]},
        "No route",
    ),
    "minimax": (
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        "login fail",
    ),
    "msg": ({"code": 1113, "msg": "Insufficient balance"}, "Insufficient balance"),
    "message": ({"message": "no healthy upstream"}, "no healthy upstream"),
    "spring": ({"status": 503, "error": "Unavailable", "message": "No instances"}, "No instances"),
    "nested text": ({"error": {"message": '{"error":{"message":"deep down"}}'}}, "deep down"),
    "error flag": ({"error": True, "message": "quota is used up"}, "quota is used up"),
    "html in json": ({"error": "<html><title>502 Bad Gateway</title></html>"}, "502 Bad Gateway"),
    "groq": ({"choices": [], "x_groq": {"id": "x", "error": "over capacity"}}, "over capacity"),
    "code only": ({"error": {"code": "model_not_found"}}, "model_not_found"),
}


@pytest.mark.parametrize("document, reason", ERRORS.values(), ids=ERRORS)
def test_an_error_is_told_wherever_it_stands(document: object, reason: str) -> None:
    data = event(document)
    for reply, stream, text in [
        (HELLO + data + DONE, True, "Hello"),
        (data + DONE, True, ""),
        (data, True, ""),
        (data[6:], True, ""),
        (data[6:].strip(), True, ""),
        (data[6:], False, ""),
        (data + DONE, False, ""),
    ]:
        outcome = read_cut(reply, stream=stream)
        if document == {"message": "no healthy upstream"} and text:
            assert outcome.ending == "completed"  # words without a code may be anything
            continue
        assert (outcome.ending, outcome.text) == ("failed", text), reply
        assert outcome.stored == bool(text)
        assert reason in outcome.error and "<" not in outcome.error and "\n" not in outcome.error


@pytest.mark.parametrize("depth", [3, 9, 100, 450, 900, 5000])
@pytest.mark.parametrize(
    "place", [b'{"error":%b}', b"%b", b'{"choices":[{"delta":{"content":%b}}]}']
)
def test_no_depth_is_too_deep(place: bytes, depth: int) -> None:
    for opened, closed in [(b"[", b"]"), (b'{"message":', b"}")]:
        for document in (
            place % (opened * depth + b'"x"' + closed * depth),
            place % (opened * depth),
        ):
            for reply in (document, b"data: " + document + b"\n\n"):
                assert read(reply, stream=True).ending in ("failed", "completed")
                assert read(reply, stream=False).ending in ("failed", "completed")
                assert describe_error(reply, KEY)


@pytest.mark.parametrize(
    "piece", ["a", "x", "*", "<h1>", "sk-", "{", "[", "a.", "data: {\n", '{"a":']
)
def test_long_nonsense_takes_no_time(piece: str) -> None:
    reply = (piece * (1024 * 1024 // len(piece))).encode()
    began = time.process_time()
    for body in (reply, json.dumps({"error": reply.decode()}).encode()):
        assert read(body, stream=True).ending == read(body, stream=False).ending == "failed"
        assert len(describe_error(body, KEY)) <= 500
    assert time.process_time() - began < 5


FRAMES = {
    "an error line": (
        b'error: {"code":400,"message":"the context is full"}\n\n',
        "the context is full",
    ),
    "plain error line": (b"error: out of memory\n\n", "out of memory"),
    "an event named error": (b'event: error\ndata: {"message":"overloaded"}\n\n', "overloaded"),
    "in words": (b"event: error\ndata: overloaded\n\n", "overloaded"),
    "in brackets": (b"data: [ERROR] overloaded\n\n", "overloaded"),
    "data in words": (b"data: Error: overloaded\n\n", "overloaded"),
    "pretty": (b'[{\n  "error": {\n    "message": "quota"\n  }\n}]\n', "quota"),
}


@pytest.mark.parametrize("frame, reason", FRAMES.values(), ids=FRAMES)
def test_an_error_is_told_in_whatever_frame_it_comes(frame: bytes, reason: str) -> None:
    for stream, before in [(True, HELLO), (True, b""), (False, b""), (False, HELLO)]:
        outcome = read_cut(before + frame + (DONE if before else b""), stream=stream)
        assert (outcome.ending, reason in outcome.error) == ("failed", True), outcome
        assert outcome.text == ("Hello" if before else "")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "page, reason",
    [
        (
            b"<html>\n<head><title>502 Bad\nGateway</title></head>\n<body>x</body></html>",
            "502 Bad Gateway",
        ),
        (b"<!DOCTYPE html><p>no title", "an HTML page"),
        (b"404 page not found", "404 page not found"),
        (b"upstream connect error\nreset reason: overflow", "upstream connect error"),
    ],
)
def test_pages_and_plain_words_are_told_as_the_reason(
    page: bytes, reason: str, stream: bool
) -> None:
    outcome = read_cut(page, stream=stream)
    assert (outcome.ending, outcome.stored) == ("failed", False)
    assert reason in outcome.error and "<" not in outcome.error and len(outcome.error) < 600


def test_a_page_in_mid_answer_is_told_as_the_reason() -> None:
    outcome = read_cut(HELLO + b"<html><title>502 Bad Gateway</title></html>\n", stream=True)
    assert outcome[:2] == ("Hello", "failed") and "502 Bad Gateway" in outcome.error


@pytest.mark.parametrize("reply", [DONE, b"", chunk("") + DONE, chunk(None, ""), b": ping\n\n"])
def test_a_stream_that_says_nothing_failed(reply: bytes) -> None:
    outcome = read_cut(reply, stream=True)
    assert (outcome.ending, outcome.stored) == ("failed", False) and outcome.error


QUOTED = [
    KEY,
    KEY[:6] + "..." + KEY[-4:],
    KEY[:4] + "********" + KEY[-4:],
    "****" + KEY[-4:],
    KEY.lower(),
]


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_key_shows_in_no_error(quoted: str) -> None:
    message = f"Incorrect API key provided: {quoted}. Get one elsewhere."
    for document in ({"error": {"message": message}}, {"error": message}, {"message": message}):
        for stream in (True, False):
            for reply in (event(document), event(document)[6:], message.encode()):
                told = read(reply, stream=stream).error
                assert "Incorrect API key provided: ***" in told, told
                assert quoted not in told and KEY[-4:] not in told


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefgh12",
        "pk-abc***xyz99",
        "gsk_ab...WXYZ",
        "xai-abcdef123",
        "hf_abcdefgh123",
        "AIzaSyA1234567890",
        "Bearer abcdef123",
        "eyJhbGciOi.eyJzdWIi.sig",
        "ya29.a0AfH6SMBx",
    ],
)
def test_keys_of_known_shapes_are_hidden_whoever_they_belong_to(key: str) -> None:
    told = describe_error(b'{"error":{"message":"The key %b is invalid."}}' % key.encode(), "")
    assert told == "The key *** is invalid."


@pytest.mark.parametrize(
    "text",
    [
        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        "Missing bearer token; Bearer authentication is needed...",
        "body.api_key: Field required",
        "The model `llama-3.1-8b-instant` does not exist; it ends with nothing.",
        "none of the models is loaded",
    ],
)
def test_words_that_are_no_key_stay(text: str) -> None:
    body = json.dumps({"error": {"message": text}}).encode()
    assert describe_error(body, KEY) == text
    assert describe_error(body, "one") == text, "a short key is hidden only where it stands alone"
    assert describe_error(b'{"error":"bad key: none"}', "none") == "bad key: ***"


def test_the_key_is_hidden_at_the_edge_of_what_is_told() -> None:
    for length in range(440, 510):
        told = describe_error(json.dumps({"error": "x" * length + " " + KEY}).encode(), KEY)
        assert KEY[:4] not in told and len(told) <= 500
    for quoted in (f"ending in {KEY[-4:]}", f"starting with {KEY[:5]}", f"{KEY[:10]} {KEY[10:]}"):
        told = describe_error(json.dumps({"error": f"The key {quoted} is bad"}).encode(), KEY)
        assert KEY[:4] not in told and KEY[-4:] not in told
