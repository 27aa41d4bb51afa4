"""Recorded streams of many families, mutated: readable words are never lost, nothing raises.

FUZZ_MUTATIONS says how many; a failure names its seed.
"""

import copy
import gzip
import json
import os
import random
from typing import Any

import pytest

from chat.core.answer import Answer
from chat.core.events import Delta
from tests.replies import KEY, whole

MUTATIONS = int(os.environ.get("FUZZ_MUTATIONS", "2000"))
SHARES = 8
VALUES: list[Any] = [
    None,
    "",
    0,
    -1,
    5,
    "5",
    1.5,
    1e400,
    True,
    False,
    [],
    {},
    "x",
    [1],
    {"a": None},
    [[]],
    [{}],
]
DOUBLE = "\x01"  # behind the name of a field: it stands there twice
PIECES = ["The", " answer", " is", " 42", "\n", "é😀", " </p>", " data: x", "."]
COUNT = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _chunk(delta: object, finish: str | None = None, head: Any = HEAD, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {**head, "choices": [choice]}


def _said(head: Any = HEAD, **more: Any) -> list[Any]:
    return [_chunk({"content": piece}, head=head, **more) for piece in PIECES]


FAMILIES: dict[str, list[Any]] = {
    "openai": [
        _chunk({"role": "assistant", "content": "", "refusal": None}),
        *_said({**HEAD, "service_tier": "default", "system_fingerprint": "fp"}, logprobs=None),
        _chunk({}, "stop"),
        {**HEAD, "choices": [], "usage": {**COUNT, "prompt_tokens_details": {"cached_tokens": 0}}},
    ],
    "azure": [
        {**HEAD, "choices": [], "prompt_filter_results": [{"content_filter_results": {}}]},
        *_said(content_filter_results={"hate": {"filtered": False, "severity": "safe"}}),
        _chunk({}, "stop", content_filter_offsets={"check_offset": 1}),
    ],
    "openrouter": [
        *_said({**HEAD, "provider": "p"}, native_finish_reason=None, logprobs=None),
        _chunk({"role": "assistant", "content": ""}, "stop", native_finish_reason="end_turn"),
        {**HEAD, "choices": [], "usage": {**COUNT, "cost": 0.01}},
    ],
    "groq": [
        _chunk({"role": "assistant"}, head={**HEAD, "x_groq": {"id": "r"}}),
        *_said(),
        _chunk({}, "stop", head={**HEAD, "x_groq": {"id": "r", "usage": COUNT}}),
    ],
    "deepseek": [
        *[_chunk({"content": None, "reasoning_content": text}) for text in ("hm", " so")],
        *[_chunk({"content": piece, "reasoning_content": None}) for piece in PIECES],
        _chunk({"content": ""}, "stop", head={**HEAD, "usage": COUNT}),
    ],
    "kimi": [*_said(), _chunk({}, "stop", usage=COUNT)],
    "mistral": [
        _chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        *_said(),
        _chunk({"content": ""}, "stop", head={**HEAD, "usage": COUNT}),
    ],
    "gemini": [*_said({**HEAD, "usage": COUNT}), _chunk({"role": "assistant"}, "stop")],
    "llama.cpp": [
        _chunk({"role": "assistant", "content": None}),
        *_said(),
        _chunk({}, "stop", head={**HEAD, "timings": {"prompt_n": 9, "predicted_ms": 1.5}}),
    ],
    "vllm": [
        _chunk({"role": "assistant"}),
        *_said(logprobs=None),
        _chunk({}, "stop", stop_reason=None),
    ],
    "xai": [*_said({**HEAD, "usage": COUNT}), _chunk({}, "stop", head={**HEAD, "usage": COUNT})],
}
FAILURES = [
    {"error": {"message": f"Incorrect API key provided: {KEY}", "code": 401}},
    {"error": {"message": "x", "metadata": {"raw": json.dumps({"error": f"Bearer {KEY}"})}}},
    {"detail": [{"loc": ["header"], "msg": f"bad key {KEY[:12]}...{KEY[-6:]}"}]},
    {"message": KEY, "code": 403, "choices": None},
    {"object": "error", "message": f"key={KEY}", "code": 500},
]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: (what it is in, its name there)."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = []
    for name, inner in items:
        found += [(value, name), *_places(inner)]
    return found


def _mutate(documents: list[Any], dice: random.Random) -> None:
    """Change one thing: a value is dropped, doubled or retyped, or documents change places."""
    kind = dice.choice(["drop", "double", "retype", "retype", "swap", "repeat"])
    at = dice.randrange(len(documents))
    if kind == "swap":
        other = min(at + 1, len(documents) - 1)
        documents[at], documents[other] = documents[other], documents[at]
        return
    if kind == "repeat":
        documents.insert(at, copy.deepcopy(documents[at]))
        return
    places = _places(documents[at])
    if not places:
        return
    holder, name = dice.choice(places)
    if kind == "drop":
        del holder[name]
    elif kind == "double" and isinstance(holder, dict):
        holder[f"{name}{DOUBLE}"] = dice.choice([holder[name], None])
    else:
        holder[name] = copy.deepcopy(dice.choice(VALUES))


def _write(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=False).replace(json.dumps(DOUBLE)[1:-1], "")
    return text.encode()


def _strictly(data: bytes, field: str) -> str:
    """The words that anybody would read there."""
    try:
        words = json.loads(data)["choices"][0][field]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return words if isinstance(words, str) else ""


def _holds_in_order(text: str, pieces: list[str]) -> bool:
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def _split(data: bytes, dice: random.Random) -> list[bytes]:
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice([0, 1, 3, 40])))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _read(pieces: list[bytes], *, stream: bool) -> Answer:
    answer = Answer(stream=stream, keepalive_seconds=10, now=0.0, secrets=(KEY,))
    events = [event for piece in pieces for event in answer.receive(piece, 1.0)]
    events += answer.upstream_ended()
    said = [event for event in events if isinstance(event, Delta)]
    assert answer.ending in ("completed", "failed")
    assert (answer.error is None) == (answer.ending == "completed")
    assert "".join(event.text for event in said) == answer.text
    assert answer.offset == len(answer.text) and (not said or said[-1].offset == answer.offset)
    answer.text.encode()
    if answer.error:
        message = answer.error.message
        shown = [at for at in range(len(KEY) - 7) if KEY[at : at + 8] in message]
        assert not shown and KEY[-6:] not in message and "\n" not in message
    return answer


@pytest.mark.parametrize("share", range(SHARES))
def test_no_mutation_of_a_stream_loses_readable_words(share: int) -> None:
    for seed in range(share, MUTATIONS, SHARES):
        dice = random.Random(seed)
        documents = copy.deepcopy(FAMILIES[dice.choice(sorted(FAMILIES))])
        for _ in range(dice.choice([1, 1, 1, 2, 4])):
            _mutate(documents, dice)
        written = [_write(document) for document in documents]
        if dice.random() < 0.3:
            written.insert(dice.randrange(len(written)), dice.choice([b"", b"ping", b"[]", b"{}"]))
        end = dice.choice([b"\n\n", b"\n\n", b"\r\n\r\n", b"\n"])
        frames = [b"data: %b%b" % (data, end) for data in written]
        if dice.random() < 0.2:  # a cut: what came whole before it counts
            cut = dice.randrange(len(b"".join(frames)) + 1)
            stream = b"".join(frames)[:cut]
            written = [d for n, d in enumerate(written) if len(b"".join(frames[: n + 1])) <= cut]
        else:
            stream = b"".join(frames) + b"data: [DONE]" + end
        answer = _read(_split(stream, dice), stream=True)
        pieces = [_strictly(data, "delta") for data in written]
        assert _holds_in_order(answer.text, pieces), f"seed {seed}: {answer.text!r}"
        assert answer.stored or not answer.text, f"seed {seed}"


@pytest.mark.parametrize("share", range(SHARES))
def test_no_mutation_of_a_whole_answer_loses_readable_words(share: int) -> None:
    for seed in range(share, MUTATIONS // 2, SHARES):
        dice = random.Random(seed)
        documents = [json.loads(whole("".join(PIECES), usage=COUNT, **HEAD))]
        for _ in range(dice.choice([1, 1, 2])):
            _mutate(documents, dice)
        body = b"".join(_write(document) for document in documents)
        answer = _read(_split(body, dice), stream=dice.random() < 0.5)
        pieces = [_strictly(_write(document), "message") for document in documents[:1]]
        assert _holds_in_order(answer.text, pieces), f"seed {seed}: {body!r}"
        assert answer.ending == "completed" or not any(pieces), f"seed {seed}: {body!r}"


@pytest.mark.parametrize("share", range(SHARES))
def test_no_mutation_of_an_error_shows_the_key(share: int) -> None:
    for seed in range(share, MUTATIONS // 2, SHARES):
        dice = random.Random(seed)
        documents = [copy.deepcopy(dice.choice(FAILURES))]
        for _ in range(dice.choice([0, 1, 2])):
            _mutate(documents, dice)
        frame = dice.choice([b"data: %b\n\n", b"%b", b"event: error\ndata: %b\n\n", b"error: %b\n"])
        body = b"".join(frame % _write(document) for document in documents)
        if dice.random() < 0.3:
            body = body[: dice.randrange(len(body))]
        answer = _read(_split(body, dice), stream=dice.random() < 0.5)
        assert answer.ending == "failed" and not answer.stored, f"seed {seed}: {body!r}"


@pytest.mark.parametrize("share", range(SHARES))
def test_no_bytes_at_all_raise_anything(share: int) -> None:
    for seed in range(share, MUTATIONS, SHARES):
        dice = random.Random(seed)
        documents = FAMILIES[dice.choice(sorted(FAMILIES))]
        stream = bytearray(b"".join(b"data: %b\n\n" % _write(document) for document in documents))
        for _ in range(dice.choice([1, 5, 50])):
            stream[dice.randrange(len(stream))] = dice.choice(
                [0, 10, 13, 34, 44, 58, 92, 123, 200, 255]
            )
        if dice.random() < 0.2:
            stream = bytearray(gzip.compress(stream))
            stream[dice.randrange(len(stream))] = dice.randrange(256)
        _read(_split(bytes(stream), dice), stream=dice.random() < 0.7)
