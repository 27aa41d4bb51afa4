"""The product's own API over HTTP, against a running function."""

import re
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Function, StartFunction
from tests.traces import traces_of

ID = {"msg": re.compile(r"msg_[0-9a-f]{25,}"), "turn": re.compile(r"turn_[0-9a-f]{25,}")}
ETAG = re.compile(r'"[0-9a-f]{8}\.2"')
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_an_unstreamed_turn_answers_with_the_assistants_message(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["I'm ", "fine."]))
    reply = client.say(chat_id, "Hello, how are you?")
    message = reply.json
    assert reply.status == 200
    assert list(message) == [
        "id",
        "role",
        "content",
        "created_at",
        "parent_id",
        "model",
        "finish_reason",
        "status",
        "usage",
        "chat_id",
        "turn_id",
    ]
    assert (message["role"], message["content"], message["status"]) == (
        "assistant",
        "I'm fine.",
        "completed",
    )
    assert (message["model"], message["finish_reason"]) == ("gpt-5.4-mini", "stop")
    assert message["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    assert message["chat_id"] == chat_id
    assert ID["msg"].fullmatch(message["id"]) and ID["turn"].fullmatch(message["turn_id"])
    assert TIME.fullmatch(message["created_at"])
    assert ETAG.fullmatch(reply.headers["ETag"])
    assert re.fullmatch(
        r"auth;dur=[\d.]+, store;dur=[\d.]+, upstream;dur=[\d.]+, total;dur=[\d.]+",
        reply.headers["Server-Timing"],
    )


def test_a_streamed_turn_is_started_deltas_and_one_ending(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["I'm ", "fine 😀", "."]))
    stream = client.stream(f"/{chat_id}/chat", {"content": "Hello", "stream": True})
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.headers["Cache-Control"] == "no-cache, no-transform"
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert "Server-Timing" in stream.headers
    events = stream.rest()
    started, ended = events[0], events[-1]
    assert [e.name for e in events] == ["started", "delta", "delta", "delta", "completed"]
    mark = started.id.removesuffix(":0")
    assert [e.id for e in events] == [f"{mark}:{at}" for at in (0, 4, 10, 11, "end")]
    assert [e.data["text"] for e in events[1:-1]] == ["I'm ", "fine 😀", "."]
    assert ended.data["content"] == "I'm fine 😀."
    assert started.data == {
        "turn_id": ended.data["turn_id"],
        "chat_id": chat_id,
        "user_message_id": ended.data["parent_id"],
        "message_id": ended.data["id"],
        "user_message": client.get(f"/{chat_id}/chat").json[0],
    }
    assert client.get(f"/{chat_id}/chat").json[-1] == ended.data


def test_the_first_bytes_of_a_stream_are_as_documented(client: Client, chat_id: str) -> None:
    body = client.say(chat_id, "Hello", stream=True).body
    begins = rb'retry: 2000\nid: ([0-9a-f]{9}):0\nevent: started\ndata: {"turn_id":"turn_'
    mark = re.match(begins, body)
    assert mark, body
    assert b'\n\nid: %b:4\nevent: delta\ndata: {"text":"You "}\n\n' % mark[1] in body
    assert b"\n\nid: %b:end\nevent: completed\n" % mark[1] in body


@pytest.mark.parametrize(
    "body, accept, streamed",
    [
        ({"stream": True}, "*/*", True),
        ({"stream": "true"}, "*/*", True),
        ({}, "text/event-stream", True),
        ({"stream": False}, "text/event-stream", False),
        ({"stream": "false"}, "*/*", False),
        ({}, "application/json", False),
    ],
)
def test_streaming_is_asked_for_in_the_body_or_by_accept(
    client: Client, chat_id: str, body: dict[str, object], accept: str, streamed: bool
) -> None:
    reply = client.post(f"/{chat_id}/chat", {"content": "x", **body}, Accept=accept)
    assert reply.headers["Content-Type"].startswith("text/event-stream") == streamed


def test_every_message_is_answered_with_the_ones_before_in_mind(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "My name is Ada.")
    client.say(chat_id, "What is my name?", stream=True)
    client.say(chat_id, [{"type": "text", "text": "Sure?"}])
    sent = [m["content"] for m in model.requests[-1].body["messages"]]
    history = client.get(f"/{chat_id}/chat").json
    assert [m["content"] for m in history[:-1]] == sent
    assert sent[0] == "My name is Ada." and sent[4] == [{"type": "text", "text": "Sure?"}]
    assert [m["role"] for m in history] == ["user", "assistant"] * 3
    assert [m["parent_id"] for m in history] == [None, *(m["id"] for m in history[:-1])]


def test_what_goes_upstream_is_the_request_and_nothing_else(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(
        chat_id,
        "x",
        model="other",
        temperature=0.5,
        max_tokens=7,
        metadata={"a": 1},
        gadgets=["no"],
    )
    asked = model.requests[-1]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "other",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.5,
        "max_tokens": 7,
    }
    client.say(chat_id, "y", stream=True)
    assert model.requests[-1].body["stream_options"] == {"include_usage": True}
    assert model.requests[-1].body["model"] == "gpt-5.4-mini"


def test_instructions_last_from_the_turn_that_brought_them(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "a", system="Be brief.")
    client.say(chat_id, "b")
    assert model.requests[-1].body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert client.get(f"/{chat_id}").json["system"] == "Be brief."
    client.say(chat_id, "c", system="")
    client.say(chat_id, "d")
    assert model.requests[-1].body["messages"][0]["role"] == "user"
    assert all(m["role"] != "system" for m in client.get(f"/{chat_id}/chat").json)


def test_metadata_stays_with_the_users_message(client: Client, chat_id: str) -> None:
    client.say(chat_id, "a", metadata={"screen": "home", "n": [1, None]})
    client.say(chat_id, "b")
    user, _, second, _ = client.get(f"/{chat_id}/chat").json
    assert user["metadata"] == {"screen": "home", "n": [1, None]}
    assert "metadata" not in second


def test_the_history_comes_in_pages(client: Client, chat_id: str) -> None:
    for n in range(3):
        client.say(chat_id, f"message {n}")
    whole = client.get(f"/{chat_id}/chat").json
    seen: list[Any] = []
    path = f"/{chat_id}/chat?limit=4"
    while path:
        reply = client.get(path)
        seen = reply.json + seen
        link = reply.headers.get("Link", "")
        query = link.partition("<")[2].partition(">")[0]
        path = query and f"/{chat_id}/chat{query}"
        assert not link or link.endswith('rel="next"')
    assert seen == whole and len(whole) == 6
    assert "Link" not in client.get(f"/{chat_id}/chat?limit=6").headers


def test_a_known_revision_is_not_sent_again(client: Client, chat_id: str) -> None:
    assert client.get(f"/{chat_id}/chat").headers["ETag"] == '"0"'
    client.say(chat_id, "a")
    first = client.get(f"/{chat_id}/chat")
    again = client.get(f"/{chat_id}/chat", If_None_Match=first.headers["ETag"])
    etag = first.headers["ETag"]
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert client.get(f"/{chat_id}/chat", If_None_Match=f'"1", W/{etag}').status == 304
    assert client.get(f"/{chat_id}/chat", If_None_Match='"2"').status == 200
    client.say(chat_id, "b")
    assert client.get(f"/{chat_id}/chat", If_None_Match=first.headers["ETag"]).status == 200


def test_a_chat_that_does_not_exist_is_an_empty_list_and_no_chat(
    client: Client, chat_id: str
) -> None:
    assert client.get(f"/{chat_id}/chat").json == []
    assert (client.get(f"/{chat_id}").status, client.get(f"/{chat_id}").code) == (
        404,
        "chat_not_found",
    )
    assert client.request("PATCH", f"/{chat_id}", {"title": "x"}).code == "chat_not_found"
    assert client.request("DELETE", f"/{chat_id}").status == 204


def test_a_chat_is_described_and_changed(client: Client, model: ModelServer, chat_id: str) -> None:
    client.say(chat_id, "a b c")
    reply = client.request(
        "PATCH", f"/{chat_id}", {"title": "T", "model": "m", "system": "s", "metadata": {"k": 1}}
    )
    chat = reply.json
    assert reply.status == 200 and ETAG.fullmatch(reply.headers["ETag"])
    assert TIME.fullmatch(chat.pop("created_at")) and TIME.fullmatch(chat.pop("updated_at"))
    usage = chat.pop("usage")
    assert chat == {
        "id": chat_id,
        "title": "T",
        "message_count": 2,
        "model": "m",
        "system": "s",
        "metadata": {"k": 1},
        "active_turn": None,
        "running_message": None,
    }
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 3
    client.say(chat_id, "d")
    assert model.requests[-1].body["model"] == "m"
    cleared = client.request("PATCH", f"/{chat_id}", {"title": None, "model": ""}).json
    assert (cleared["title"], cleared["model"], cleared["system"]) == (None, None, "s")


@pytest.mark.parametrize("path", ["/{}", "/{}/chat"])
def test_a_deleted_chat_leaves_nothing(
    client: Client, function: Function, redis_server: Any, chat_id: str, path: str
) -> None:
    client.say(chat_id, "secret words")
    deleted = client.request("DELETE", path.format(chat_id))
    assert (deleted.status, deleted.body) == (204, b"") and "Content-Type" not in deleted.headers
    assert traces_of(redis_server, chat_id) == []
    assert client.get(f"/{chat_id}/chat").json == []


def test_chats_are_listed_newest_first_in_pages(start_function: StartFunction) -> None:
    client = start_function().client
    names = [f"listed-{n}" for n in range(5)]
    for name in names:
        client.say(name, "x")
    client.say(names[0], "again")
    seen, cursor = [], ""
    while True:
        page = client.get(f"/chats?limit=2&cursor={cursor}").json
        seen += [chat["id"] for chat in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert [name for name in seen if name in names] == [names[0], *reversed(names[1:])]
    assert len(seen) == len(set(seen))
