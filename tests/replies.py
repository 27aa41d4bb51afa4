"""What model servers have been seen to send, and reading it piece by piece."""

import json
from typing import Any, NamedTuple

from chat.core.answer import Answer
from chat.core.messages import Usage

KEY = "gsk_Zq7RtB4mVx1LwKpN8sHdYc3J"
DONE = b"data: [DONE]\n\n"


class Outcome(NamedTuple):
    """What became of an answer."""

    text: str
    ending: str | None
    error: str
    finish_reason: str | None
    usage: Usage | None
    reasoning: str
    stored: bool


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value, ensure_ascii=False).encode()


def chunk(content: object = None, finish_reason: object = None, **more: Any) -> bytes:
    """A chunk of a stream: `c("x")` of the reports."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"choices": [choice], **more})


def whole(content: object, finish_reason: object = "stop", **more: Any) -> bytes:
    """A completion that is not streamed."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], **more}, ensure_ascii=False).encode()


STOP = chunk(None, "stop")
HELLO = chunk("Hel") + chunk("lo")


def read(*pieces: bytes, stream: bool, encoding: str = "") -> Outcome:
    """Read a reply to its end."""
    answer = Answer(stream=stream, keepalive_seconds=10, now=0.0, secrets=(KEY,))
    answer.head(encoding)
    for piece in pieces:
        answer.receive(piece, 1.0)
    answer.upstream_ended()
    return Outcome(
        answer.text,
        answer.ending,
        answer.error.message if answer.error else "",
        answer.finish_reason,
        answer.usage,
        answer.reasoning,
        answer.stored,
    )


def read_cut(reply: bytes, *, stream: bool, encoding: str = "") -> Outcome:
    """Read a reply cut at every byte: the outcome is always the same."""
    outcome = read(reply, stream=stream, encoding=encoding)
    for cut in range(1, len(reply)):
        again = read(reply[:cut], reply[cut:], stream=stream, encoding=encoding)
        assert again == outcome, f"cut at {cut}: {reply[:cut]!r}"
    single = [reply[at : at + 1] for at in range(len(reply))]
    assert read(*single, stream=stream, encoding=encoding) == outcome
    return outcome
