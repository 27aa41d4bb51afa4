"""The table in docs/providers.md is what these tests find: each family x each thing it must do."""

import json
import os
from collections.abc import Iterator

import pytest

from chat.core.answer import Answer
from chat.core.completions import ChatRequest
from chat.core.errors import ChatkeepError
from chat.core.messages import Usage
from chat.models.upstream import Upstream
from dev import model
from dev.model import ModelServer
from tests.calls import read_once, request
from tests.families import FAMILIES, Family
from tests.harness import ROOT

PAGE = ROOT / "docs/providers.md"
BEGIN, END = "<!-- written by tests/test_families.py -->\n", "<!-- end of the table -->"
COLUMNS = ("chat", "stream", "errors told", "usage", "limits", "thinking")
COUNTED = Usage(7, 5, 12)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    started = ModelServer().start()
    yield started
    started.stop()


def _ask(
    server: ModelServer, *replies: model.Answer, stream: bool, cap: int | None = None
) -> Answer:
    """Ask a stand-in that replies like this; read as a turn reads."""
    server.reset()
    server.enqueue(*replies)
    upstream = Upstream(server.url, "gsk_the-key-of-this-test", 5)
    asked = ChatRequest("m", request().messages, stream=stream, temperature=None, max_tokens=cap)
    call = upstream.call(asked)
    answer = Answer(stream=stream, keepalive_seconds=9, now=0.0, secrets=upstream.secrets)
    try:
        while not answer.ending:
            piece = read_once(call, 0.2)
            if piece:
                answer.receive(piece, 0.0)
            elif piece == b"":
                answer.upstream_ended()
    except ChatkeepError as error:
        answer.fail(error)
    call.drain()
    return answer


def _replies(family: Family, *, stream: bool) -> list[model.Answer]:
    """What it sends; first its refusal of an option it does not know."""
    kind = "text/event-stream" if stream else "application/json"
    body = family.stream if stream else family.whole
    reply = model.Answer(raw=body, headers={"Content-Type": kind})
    if not (stream and family.refuses):
        return [reply]
    detail = [{"type": "extra_forbidden", "loc": ["body", family.refuses], "msg": "Extra inputs"}]
    return [model.Answer(status=422, raw=json.dumps({"detail": detail}).encode()), reply]


def _find(server: ModelServer, family: Family) -> dict[str, str]:
    """What holds of a family: the cells of its row."""
    whole, streamed = (
        _ask(server, *_replies(family, stream=stream), stream=stream) for stream in (False, True)
    )
    both = (whole, streamed)
    thoughts = {answer.reasoning for answer in both}
    found = {
        "chat": whole.ending == "completed" and whole.text == "Hello",
        "stream": streamed.ending == "completed" and streamed.text == "Hello",
        "errors told": all(_tells(server, family, stream) for stream in (False, True)),
        "usage": all(answer.usage == COUNTED for answer in both),
        "limits": _caps(server, family),
    }
    cells = {name: "yes" if holds else "no" for name, holds in found.items()}
    apart = "yes" if thoughts == {"plan"} else "no"
    return cells | {"thinking": apart if family.thinks else "" if thoughts == {""} else "no"}


def _tells(server: ModelServer, family: Family, stream: bool) -> bool:
    status, body = family.refusal
    headers = {"x-should-retry": "false"}
    answer = _ask(server, model.Answer(status=status, raw=body, headers=headers), stream=stream)
    return answer.error is not None and family.reason in answer.error.message


def _caps(server: ModelServer, family: Family) -> bool:
    """Whether an answer is capped, at a server that knows one of the two names only."""
    replies = _replies(family, stream=False)
    if family.cap != "max_tokens":  # the stand-in, on loopback, is asked with this one first
        message = f"Unsupported parameter: 'max_tokens'. Use '{family.cap}' instead."
        body = json.dumps({"error": {"message": message}}).encode()
        replies.insert(0, model.Answer(status=400, raw=body))
    answer = _ask(server, *replies, stream=False, cap=9)
    return answer.text == "Hello" and server.requests[-1].body[family.cap] == 9


def _table(server: ModelServer) -> str:
    rows = [
        f"| family | `OPENAI_BASE_URL` | it also needs | {' | '.join(COLUMNS)} |",
        "|---" * 9 + "|",
    ]
    for name, family in FAMILIES.items():
        cells = _find(server, family)
        shown = [name, f"`{family.base_url}`", family.settings, *(cells[c] for c in COLUMNS)]
        rows.append(f"| {' | '.join(shown)} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_works_with_every_family(server: ModelServer, name: str) -> None:
    found = _find(server, FAMILIES[name])
    thinking = "yes" if FAMILIES[name].thinks else ""
    assert found == dict.fromkeys(COLUMNS, "yes") | {"thinking": thinking}


def test_the_table_of_the_page_is_what_was_found(server: ModelServer) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + BEGIN + _table(server) + END + after
    if os.environ.get("WRITE_TABLES"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page
