"""Every dialect over the same chats: golden transcripts, one contract, chats continued across dialects."""

import itertools
import json
import re
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import ADMIN_KEY, ROOT, Client, Reply, new_user
from tests.test_bad_input import assert_error

SHAPES = {
    "uuid": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "id": re.compile(r"(msg|turn)_[0-9a-f]{25,}"),
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "text": re.compile(r".+"),
}


@pytest.mark.parametrize("dialect", ["conversations", "ask", "completion", "agents"])
def test_the_document_is_answered_field_by_field(
    client: Client, model: ModelServer, dialect: str
) -> None:
    names: dict[str, str] = {}
    for step in json.loads((ROOT / f"tests/wire/{dialect}.json").read_text()):
        method, path, body = json.loads(_fill(json.dumps(step["request"]), names))
        if "model_says" in step:
            model.enqueue(Answer(pieces=re.findall(r"\S+\s*", step["model_says"])))
        reply = client.request(method, path, body)
        assert reply.status == step["status"], (path, reply.body)
        if "text" in step:
            assert (reply.headers["Content-Type"], reply.body.decode()) == (
                step["content_type"],
                step["text"],
            )
        elif "answer" in step:
            found = reply.json[0] if step.get("first_of") else reply.json
            _compare(found, step["answer"], names, path)
        else:
            assert reply.body == b""


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _compare(found: Any, expected: Any, names: dict[str, str], where: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict) and set(found) == set(expected), where
        for name, value in expected.items():
            _compare(found[name], value, names, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            _compare(one, other, names, f"{where}[{number}]")
    elif isinstance(expected, str) and (shape := re.fullmatch(r"<(\w+)(?::(\w+))?>", expected)):
        assert SHAPES[shape[1]].fullmatch(found), where
        if shape[2]:
            assert names.setdefault(shape[2], found) == found, where
    else:
        assert found == expected, where


@dataclass
class Speaker:
    """How one dialect says something in a chat that exists."""

    path: str
    field: str
    status: int = 200
    chat_field: str = ""
    streams: bool = False
    flat_error: bool = False

    def say(self, client: Client, chat_id: str, content: Any, **more: Any) -> Reply:
        headers = {name: more.pop(name) for name in list(more) if name[0].isupper()}
        body = {self.field: content, **more} | (
            {self.chat_field: chat_id} if self.chat_field else {}
        )
        return client.post(self.path.format(chat_id), body, **headers)

    def assert_error(self, reply: Reply, status: int, code: str, param: str | None = None) -> None:
        if self.flat_error:
            assert reply.status == status and list(reply.json) == ["error"], reply.body
            assert isinstance(reply.json["error"], str)
        else:
            assert_error(reply, status, code, param)


SPEAKERS = {
    "native": Speaker("/{}/chat", "content", streams=True),
    "conversations": Speaker("/conversations/{}/ask", "prompt", status=201),
    "ask": Speaker("/ask", "prompt", chat_field="conversation_id"),
    "completion": Speaker("/conversation/completion/{}", "message", streams=True),
    "agents": Speaker("/api/ask", "content", chat_field="conversation_id", flat_error=True),
}
everyone = pytest.mark.parametrize("speaker", list(SPEAKERS.values()), ids=list(SPEAKERS))
others = pytest.mark.parametrize(
    "speaker",
    [s for n, s in SPEAKERS.items() if n != "native"],
    ids=[n for n in SPEAKERS if n != "native"],
)


@pytest.fixture
def chat(client: Client) -> str:
    return str(client.post("/conversation", None).json["id"])


@everyone
def test_ok(client: Client, model: ModelServer, chat: str, speaker: Speaker) -> None:
    model.enqueue(Answer(pieces=["the ", "answer"]))
    reply = speaker.say(client, chat, "x")
    assert reply.status == speaker.status and b"the answer" in reply.body
    assert reply.headers["ETag"].endswith('.2"') and "Server-Timing" in reply.headers
    assert [m["content"] for m in client.get(f"/{chat}/chat").json] == ["x", "the answer"]


@pytest.mark.parametrize("name", [n for n, s in SPEAKERS.items() if s.streams])
def test_streamed_ok_and_cut(client: Client, model: ModelServer, chat: str, name: str) -> None:
    speaker = SPEAKERS[name]
    model.enqueue(Answer(pieces=["the ", "answer"]), Answer(pieces=["half ", "an "], cut=True))
    assert b"the" in speaker.say(client, chat, "x", stream=True).body
    cut = speaker.say(client, chat, "y", stream=True).body.decode()
    assert "half" in cut and ("broke off" in cut)
    assert [m["content"] for m in client.get(f"/{chat}/chat").json] == [
        "x",
        "the answer",
        "y",
        "half an ",
    ]


@everyone
@pytest.mark.parametrize("content", [None, "", 5, {}])
def test_bad_body(client: Client, chat: str, speaker: Speaker, content: Any) -> None:
    code = "missing_field" if content is None else "invalid_field"
    speaker.assert_error(speaker.say(client, chat, content), 400, code, speaker.field)
    assert client.get(f"/{chat}/chat").json == []


@others
def test_unknown_chat(client: Client, speaker: Speaker) -> None:
    name = str(uuid.uuid4())
    speaker.assert_error(speaker.say(client, name, "x"), 404, "chat_not_found")
    assert client.get(f"/{name}").status == 404


@everyone
def test_bad_chat_id(client: Client, speaker: Speaker) -> None:
    param = speaker.chat_field or "chat_id"
    speaker.assert_error(speaker.say(client, "a b", "x"), 400, "invalid_chat_id", param)


@everyone
def test_upstream_refused_and_cut(
    client: Client, model: ModelServer, chat: str, speaker: Speaker
) -> None:
    model.enqueue(Answer(status=400, error="no such thing"), Answer(pieces=["never"], cut=True))
    refused = speaker.say(client, chat, "x")
    speaker.assert_error(refused, 502, "upstream_refused")
    assert b"no such thing" in refused.body
    speaker.assert_error(speaker.say(client, chat, "x"), 502, "upstream_refused")
    assert client.get(f"/{chat}/chat").json == []


@everyone
def test_busy(start_function: Any, model: ModelServer, speaker: Speaker) -> None:
    client = start_function(QUEUE_SECONDS="0.2").client
    chat = client.post("/conversation", None).json["id"]
    gate = threading.Event()
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream = client.stream(f"/{chat}/chat", {"content": "x", "stream": True})
    stream.next()
    busy = speaker.say(client, chat, "y")
    speaker.assert_error(busy, 409, "turn_in_progress")
    assert busy.headers["x-should-retry"] == "false"
    gate.set()
    stream.rest()


@pytest.fixture(scope="session")
def users_base(start_function: Any) -> str:
    base: str = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY).client.base
    return base


@everyone
def test_limited(users_base: str, model: ModelServer, speaker: Speaker) -> None:
    _, user = new_user(users_base, rate_limit="1/hour")
    chat = user.post("/conversation", None).json["id"]
    passed = speaker.say(user, chat, "x")
    assert (passed.status, passed.headers["RateLimit-Remaining"]) == (speaker.status, "0")
    limited = speaker.say(user, chat, "y")
    speaker.assert_error(limited, 429, "rate_limited")
    assert b"Rate limit exceeded" in limited.body
    assert 3590 <= int(limited.headers["Retry-After"]) <= 3600
    assert len(user.get(f"/{chat}/chat").json) == 2 and len(model.requests) == 1


@everyone
def test_other_owner(users_base: str, model: ModelServer, speaker: Speaker) -> None:
    (_, owner), (_, other) = new_user(users_base), new_user(users_base)
    chat = owner.post("/conversation", None).json["id"]
    speaker.say(owner, chat, "mine")
    reply = speaker.say(other, chat, "is it?")
    if speaker is SPEAKERS["native"]:  # makes a chat of its own, under the same id
        assert len(other.get(f"/{chat}/chat").json) == 2
    else:
        speaker.assert_error(reply, 404, "chat_not_found")
        never = speaker.say(other, str(uuid.uuid4()), "is it?")
        assert (never.status, never.body) == (reply.status, reply.body)
    assert all("mine" not in str(asked.body) for asked in model.requests[1:])
    assert [m["content"] for m in owner.get(f"/{chat}/chat").json][::2] == ["mine"]


@everyone
def test_once(client: Client, model: ModelServer, chat: str, speaker: Speaker) -> None:
    first = speaker.say(client, chat, "x", Idempotency_Key="k")
    assert speaker.say(client, chat, "x", Idempotency_Key="k").body == first.body
    speaker.assert_error(
        speaker.say(client, chat, "y", Idempotency_Key="k"),
        409,
        "idempotency_conflict",
        "Idempotency-Key",
    )
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    "path, body",
    [
        ("/conversations/new", {"prompt": "x"}),
        ("/ask", {"prompt": "x"}),
        ("/api/ask", {"content": "x"}),
        ("/conversation", None),
    ],
)
def test_a_new_conversation_that_is_asked_for_twice_is_one(
    client: Client, model: ModelServer, path: str, body: Any
) -> None:
    key = str(uuid.uuid4())
    first, again = (client.post(path, body, Idempotency_Key=key) for _ in range(2))
    assert again.body == first.body and len(model.requests) <= 1


@pytest.mark.parametrize("first, second", list(itertools.product(SPEAKERS, SPEAKERS)))
def test_a_chat_begun_in_any_dialect_is_continued_in_every_other(
    client: Client, model: ModelServer, chat: str, first: str, second: str
) -> None:
    SPEAKERS[first].say(client, chat, "My name is Ada.")
    SPEAKERS[second].say(client, chat, "What is my name?")
    history = [m["content"] for m in client.get(f"/{chat}/chat").json]
    assert [m["content"] for m in model.requests[-1].body["messages"]] == history[:3]
    assert history[0] == "My name is Ada." and len(history) == 4


def test_deleting_all_conversations_leaves_none(start_function: Any, redis_server: Any) -> None:
    client = start_function().client
    for n in range(3):
        client.post("/ask", {"prompt": f"{n}"})
    assert client.request("DELETE", "/conversations/all").status == 204
    assert client.get("/conversations").json == client.get("/conversation").json == []
