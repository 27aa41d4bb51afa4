"""What model servers really send, streamed and not, cut at every byte: see `replies.py`."""

import gzip
import zlib
from typing import Any

import pytest

from chat.core.messages import Usage
from tests.replies import DONE, HELLO, STOP, Outcome, chunk, event, read, read_cut, whole

# A reply that holds the answer "Hello" in spite of all: streams first, whole ones below.
THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}]
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
GOOD_STREAMS = {
    "plain": HELLO + STOP + DONE,
    "no done": HELLO + STOP,
    "no finish reason": HELLO + DONE,
    "parts": chunk(THINKING) + chunk([PARTS[0]]) + chunk([PARTS[1]]) + STOP + DONE,
    "choices null": chunk("Hel") + event({"choices": None}) + chunk("lo") + STOP + DONE,
    "delta as a list": HELLO + event({"choices": [{"delta": [], "finish_reason": "stop"}]}) + DONE,
    "odd fields": chunk("Hel", id=5, model=None, created="x", object=[], usage="?")
    + chunk("lo")
    + DONE,
    "odd usage": chunk("Hel", usage={"prompt_tokens": None, "completion_tokens": "5"})
    + chunk("lo")
    + DONE,
    "heartbeats": b"data: \n\n"
    + chunk("Hel")
    + b"data:\n\n: ping\n\ndata: ping\n\n"
    + chunk("lo")
    + DONE,
    "no last blank line": chunk("Hel") + chunk("lo", "stop")[:-1],
    "no last line end": chunk("Hel") + chunk("lo", "stop")[:-2],
    "crlf": (HELLO + STOP + DONE).replace(b"\n", b"\r\n"),
    "bom": b"\xef\xbb\xbf" + HELLO + STOP + DONE,
    "after done": HELLO + STOP + DONE + chunk(" again") + b'data: {"error":"x"}\n\n{broken',
    "json lines": HELLO.replace(b"data: ", b"") + STOP.replace(b"data: ", b"") + b"[DONE]\n",
    "in a queue": event({"status": "processing", "message": "in the queue"}) + HELLO + DONE,
    "in one event": chunk("Hel")[:-2] + b"\n" + chunk("lo", "stop") + DONE,
    "done in the last event": HELLO + STOP[:-2] + b"\ndata: [DONE]\n\n",
    "done behind it": HELLO + STOP[:-2] + b"[DONE]\n\n",
    "done in quotes": HELLO + b'data: "[DONE]"\n\n',
    "concatenated": chunk("Hel")[:-2] + chunk("lo")[6:] + STOP + DONE,
    "nan": b'data: {"choices":[{"delta":{"content":"Hello"},"logprobs":NaN}],"x":-Infinity}\n\n'
    + DONE,
    "duplicate keys": b'data: {"choices":[],"choices":[{"delta":{"content":"x","content":"Hello"}}]}\n\n'
    + DONE,
    "bad escape": rb'data: {"choices":[{"delta":{"content":"Hello"}}],"x":"\d"}' + b"\n\n" + DONE,
    "empty errors": chunk("Hel", error=None) + chunk("lo", error={}, errors=[], detail="") + DONE,
    "a fine code": chunk("Hel", code=0, message="Success", msg="ok") + chunk("lo") + DONE,
    "repeated as a message": HELLO
    + event({"choices": [{"delta": {}, "message": {"content": "Hello"}, "finish_reason": "stop"}]})
    + DONE,
    "whole json": whole("Hello"),
    "whole json in one event": b"data: " + whole("Hello") + b"\n\n",
    "whole json, no finish reason": whole("Hello", None),
    "a number as digits": chunk("Hello", n=10**30) + DONE,
    "delta as a text": event({"choices": [{"delta": "Hello"}]}) + DONE,
    "choices as an object": event({"choices": {"delta": {"content": "Hello"}}}) + DONE,
    "text completion": event({"choices": [{"text": "Hello", "finish_reason": "stop"}]}) + DONE,
    "a refusal": event({"choices": [{"delta": {"content": None, "refusal": "Hello"}}]}) + DONE,
    "gzip": gzip.compress(HELLO + STOP + DONE, mtime=0),
    "zlib": zlib.compress(HELLO + STOP + DONE),
    "gzip in pieces": gzip.compress(chunk("Hel"), mtime=0)
    + gzip.compress(chunk("lo") + DONE, mtime=0),
}


@pytest.mark.parametrize("reply", GOOD_STREAMS.values(), ids=GOOD_STREAMS)
def test_readable_words_are_an_answer_whatever_stands_around_them(reply: bytes) -> None:
    for stream in (True, False):
        outcome = read_cut(reply, stream=stream)
        assert (outcome.text, outcome.ending, outcome.error) == ("Hello", "completed", "")
        assert outcome.stored


GOOD_WHOLES = {
    "plain": whole("Hello"),
    "pretty": whole("Hello").replace(b",", b",\n  ") + b"\n\n",
    "parts": whole(THINKING + PARTS),
    "odd usage": whole("Hello", usage={"prompt_tokens": None, "total_tokens": 1.5e300}),
    "usage as a list": whole("Hello", usage=[]),
    "no finish reason": whole("Hello", None),
    "illegal bytes elsewhere": whole("Hello", x="@").replace(b"@", b"\xf0\x9f"),
    "wrapped": b'{"success":true,"errors":[],"result":%b}' % whole("Hello"),
    "bom and blanks": b"\xef\xbb\xbf\n\n  " + whole("Hello"),
    "comments first": b": OPENROUTER PROCESSING\n\n" * 3 + whole("Hello"),
    "delta for message": whole("Hello").replace(b'"message"', b'"delta"'),
    "error null": whole("Hello", error=None),
    "garbage behind": whole("Hello") + b"{broken",
    "gzip": gzip.compress(whole("Hello"), mtime=0),
    "refusal": b'{"choices":[{"message":{"content":null,"refusal":"Hello"}}]}',
}


@pytest.mark.parametrize("reply", GOOD_WHOLES.values(), ids=GOOD_WHOLES)
def test_a_whole_answer_is_read_whatever_was_asked_for(reply: bytes) -> None:
    for stream in (True, False):
        outcome = read_cut(reply, stream=stream)
        assert (outcome.text, outcome.ending, outcome.error) == ("Hello", "completed", "")


def test_raw_deflate_is_read_by_its_header() -> None:
    packer = zlib.compressobj(wbits=-15)
    reply = packer.compress(whole("Hello")) + packer.flush()
    assert read_cut(reply, stream=False, encoding="deflate").text == "Hello"
    assert "encoding br" in read(b"\x8b\x02\x80", stream=False, encoding="br").error


def test_illegal_bytes_become_a_sign_and_the_answer_stays() -> None:
    for reply, stream in [(chunk("a@") + chunk("b") + DONE, True), (whole("a@b"), False)]:
        outcome = read_cut(reply.replace(b"@", b"\xf0\x9f"), stream=stream)
        assert (outcome.text.replace("\ufffd\ufffd", "\ufffd"), outcome.ending) == (
            "a\ufffdb",
            "completed",
        )


EMPTY = {
    "length": chunk(None, "length") + DONE,
    "empty": chunk("", "stop") + DONE,
    "filtered": chunk(None, "content_filter"),
    "only thought": event({"choices": [{"delta": {"reasoning_content": "hmm"}}]})
    + chunk("", "length"),
    "a block of thinking": chunk("<think>hm") + chunk("m", "length") + DONE,
    "a tool is called": event({"choices": [{"delta": {"tool_calls": [{"id": "x"}]}}]}) + DONE,
}


@pytest.mark.parametrize("reply", EMPTY.values(), ids=EMPTY)
def test_an_empty_answer_is_kept_as_what_it_is(reply: bytes) -> None:
    for stream in (True, False):
        outcome = read_cut(reply, stream=stream)
        assert (outcome.text, outcome.ending, outcome.stored) == ("", "completed", True)
    assert read_cut(whole(None, "length"), stream=False).finish_reason == "length"


def _delta(**words: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": words}]})


THOUGHT = {
    "deepseek": _delta(reasoning_content="plan", content=None) + _delta(content="Hello"),
    "openrouter": _delta(reasoning="plan", reasoning_details=[{"text": "plan"}], content="")
    + _delta(content="Hello"),
    "details only": _delta(reasoning_details=[{"type": "x", "text": "plan"}])
    + _delta(content="Hello"),
    "mistral": chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]}])
    + chunk([{"type": "text", "text": "Hello"}]),
    "both at once": _delta(reasoning="plan", content="Hello"),
    "as an object": _delta(reasoning={"content": "plan"}) + _delta(content="Hello"),
    "gemini": chunk([{"text": "plan", "thought": True}, {"text": "Hello"}]),
    "block": chunk("<think>plan</think>\n\nHello"),
    "block in deltas": b"".join(map(chunk, ["<think>", "plan", "</think>", "Hello"])),
    "block by letters": b"".join(map(chunk, "\n<think>plan</think>\n\nHello")),
    "magistral": chunk("[THINK]plan[/THINK]Hello"),
    "template began it": _delta(reasoning_content="plan") + chunk("</think>\n\nHello"),
}


@pytest.mark.parametrize("reply", THOUGHT.values(), ids=THOUGHT)
def test_thinking_is_no_part_of_the_answer(reply: bytes) -> None:
    for stream in (True, False):
        outcome = read_cut(reply + STOP + DONE, stream=stream)
        assert (outcome.text, outcome.reasoning) == ("Hello", "plan")
        assert outcome.ending == "completed"


@pytest.mark.parametrize(
    "text", ["use <think>x</think>", "<thin", " <b>x</b>", "<thinker>", "\n", "<"]
)
def test_what_only_looks_like_thinking_is_text(text: str) -> None:
    for pieces in ([text], list(text)):
        outcome = read(*map(chunk, pieces), STOP, DONE, stream=True)
        assert (outcome.text, outcome.reasoning, outcome.ending) == (text, "", "completed")


COUNT = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
COUNTS = {
    "last chunk": HELLO + STOP + event({"choices": [], "usage": COUNT}) + DONE,
    "each chunk": chunk("Hel", usage={**COUNT, "completion_tokens": 1, "total_tokens": 8})
    + chunk("lo", usage=COUNT)
    + DONE,
    "kimi": HELLO + event({"choices": [{"delta": {}, "finish_reason": "stop", "usage": COUNT}]}),
    "groq": HELLO + chunk(None, "stop", x_groq={"id": "x", "usage": COUNT}),
    "texts": HELLO + chunk(None, "stop", usage={"prompt_tokens": "7", "completion_tokens": "5"}),
    "floats": HELLO + chunk(None, "stop", usage={"prompt_tokens": 7.0, "total_tokens": 12.0}),
    "then zeros": chunk("Hello", usage=COUNT) + chunk(None, "stop", usage={"total_tokens": 0}),
    "whole": whole("Hello", usage=COUNT),
    "other names": whole("Hello", usage={"input_tokens": 7, "output_tokens": 5}),
}
NO_COUNTS: list[Any] = [
    {},
    None,
    {"total_tokens": 0},
    {"prompt_tokens": 7, "completion_tokens": 0},
    [],
    "x",
]


@pytest.mark.parametrize("reply", COUNTS.values(), ids=COUNTS)
def test_usage_is_taken_from_wherever_it_is(reply: bytes) -> None:
    for stream in (True, False):
        outcome = read_cut(reply, stream=stream)
        assert (outcome.text, outcome.usage) == ("Hello", Usage(7, 5, 12))


@pytest.mark.parametrize("usage", NO_COUNTS)
def test_zeros_beside_text_are_no_count(usage: object) -> None:
    assert read(whole("Hello", usage=usage), stream=False).usage is None
    assert read(chunk("Hello", usage=usage) + DONE, stream=True).usage is None


def test_half_of_an_answer_stays_incomplete() -> None:
    assert read_cut(HELLO, stream=True) == Outcome(
        "Hello",
        "failed",
        "The model API broke off in the middle of its answer.",
        None,
        None,
        "",
        True,
    )
    assert read(whole("Hello")[:-9], stream=False)[:2] == ("", "failed")
