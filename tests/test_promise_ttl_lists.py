"""A chat lives and dies whole, and is seen by its owner from its first message to its end."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client, Function, start_stream, wait_until
from tests.promises import head_of, in_background, keys_of, read_all
from tests.traces import traces_of

MINUTE_MS = 60_000


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Client]:
    """Start an instance on a Redis of its own; a client of it."""

    def start(**settings: str) -> Client:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        client: Client = start_briefly(**own | settings).client
        return client

    return start


def lifetimes_ms(redis: RedisServer, chat_id: str) -> list[int]:
    """How long each key of a chat has to live; -1: for ever. Logs have a time of their own."""
    client = redis.client()
    return [client.pttl(key) for key in keys_of(redis, chat_id) if ":log:" not in key]


def assert_lives_whole(redis: RedisServer, chat_id: str, least_ms: int) -> None:
    lifetimes = lifetimes_ms(redis, chat_id)
    assert lifetimes and max(lifetimes) - min(lifetimes) <= 100, lifetimes
    assert min(lifetimes) >= least_ms, lifetimes


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_is_longer_than_the_life_of_a_chat_is_kept(
    start: Any, model: ModelServer, chat_id: str, stream: bool
) -> None:
    client = start(CHAT_TTL_SECONDS="1", LEASE_SECONDS="1")
    model.enqueue(Answer(pieces=["slow ", "and ", "whole"], hang=1.6, pause=0.3))
    reply = client.say(chat_id, "x", stream=stream)
    last = reply.events[-1].data if stream else reply.json
    assert (reply.status, last.get("content")) == (200, "slow and whole"), reply.body
    assert [m["content"] for m in client.get(f"/{chat_id}/chat").json] == ["x", "slow and whole"]


@pytest.mark.parametrize("what", ["turn", "refused turn", "rename", "empty"])
def test_whatever_renews_a_chat_renews_all_of_it(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, what: str
) -> None:
    client = start(CHAT_TTL_SECONDS="60")
    if what == "empty":
        made = client.post("/conversation", None).json
        chat_id = made.get("id") or made["conversation_id"]
        assert_lives_whole(own_redis, chat_id, 50_000)
        return
    client.say(chat_id, "x")
    time.sleep(0.5)
    if what == "refused turn":
        model.enqueue(Answer(status=400, error="no"))
        assert client.say(chat_id, "y").status == 502
    elif what == "rename":
        assert client.request("PATCH", f"/{chat_id}", {"title": "t"}).status == 200
    else:
        assert client.say(chat_id, "y").status == 200
    assert_lives_whole(own_redis, chat_id, 0)


def test_a_running_turn_keeps_its_whole_chat_alive(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    client = start(CHAT_TTL_SECONDS="60", LEASE_SECONDS="1")
    client.say(chat_id, "x")
    time.sleep(0.4)
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    assert_lives_whole(own_redis, chat_id, MINUTE_MS - 3000)
    time.sleep(2.5)
    assert_lives_whole(own_redis, chat_id, MINUTE_MS - 2000)
    gate.set()
    assert stream.rest()[-1].name == "completed"


def test_a_chat_whose_messages_were_evicted_is_a_chat_again_with_its_next_message(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    client = start()
    client.say(chat_id, "x")
    for key in keys_of(own_redis, chat_id):
        if ":history:" in key:
            own_redis.client().delete(key)
    said = client.say(chat_id, "y")
    assert said.status == 200
    history = client.get(f"/{chat_id}/chat").json
    assert client.get(f"/{chat_id}").json["message_count"] == len(history) == 2
    assert history[1] == said.json and len({m["id"] for m in history}) == 2
    etag = client.get(f"/{chat_id}/chat").headers["ETag"]
    assert client.post(f"/{chat_id}/chat", {"content": "z"}, If_Match=etag).status == 200
    before = client.get(f"/{chat_id}/chat").json[2]["id"]
    assert len(client.get(f"/{chat_id}/chat?before={before}").json) == 2


def test_a_chat_that_does_not_expire_is_not_hidden_and_not_forgotten(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    start().say(chat_id, "for ever")
    client = start(CHAT_TTL_SECONDS="1")
    time.sleep(1.2)
    client.say(f"{chat_id}-2", "x")
    assert {chat["id"] for chat in client.get("/chats").json["data"]} == {chat_id, f"{chat_id}-2"}
    assert b"for ever" in client.get("/me/export").body
    assert client.request("DELETE", "/me").status == 204
    assert traces_of(own_redis, chat_id) == []


def test_a_chat_that_has_expired_is_in_no_list(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    client = start(CHAT_TTL_SECONDS="1")
    client.say(chat_id, "x")
    assert wait_until(lambda: client.get(f"/{chat_id}").status == 404, 5)
    assert client.get("/chats").json["data"] == [] and client.get("/me/export").body == b""
    assert traces_of(own_redis, chat_id) == []


def test_an_export_that_is_read_slowly_loses_no_chat_that_is_used_meanwhile(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer
) -> None:
    function = start_briefly(REDIS_URL=own_redis.url, REDIS_CLUSTER="no")
    client, count = function.client, 110
    assert client.say("c0", "the oldest").status == 200
    with ThreadPoolExecutor(4) as pool:
        say = lambda n: client.say(f"c{n}", "x" * 60_000).status  # noqa: E731
        assert set(pool.map(say, range(1, count))) == {200}
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", function.port))
        slow.sendall(head_of("GET", "/me/export"))
        data = slow.recv(1000)
        assert client.say("c0", "again").status == 200
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        data += read_all(slow, 30)
    chats = {f"c{n}" for n in range(count) if f'"id":"c{n}"'.encode() in data}
    assert chats == {f"c{n}" for n in range(count)}


def test_a_chat_that_is_renamed_between_two_pages_is_on_one_of_them(start: Any) -> None:
    client = start()
    for n in range(6):
        client.say(f"c{n}", "x")
    page = client.get("/chats?limit=2").json
    seen = [chat["id"] for chat in page["data"]]
    assert client.request("PATCH", "/c0", {"title": "renamed"}).status == 200
    while page["next_cursor"]:
        page = client.get(f"/chats?limit=2&cursor={page['next_cursor']}").json
        seen += [chat["id"] for chat in page["data"]]
        assert len(seen) < 20
    assert set(seen) == {f"c{n}" for n in range(6)}


@pytest.mark.parametrize(
    "text",
    ["漢字仮名交じり文" * 20, "สวัสดีชาวโลก" * 20, "https://example.com/" + "a" * 200, "word" * 50],
)
def test_a_first_message_without_a_blank_gives_a_title_of_its_first_characters(
    client: Client, chat_id: str, text: str
) -> None:
    client.say(chat_id, text)
    title = client.get(f"/{chat_id}").json["title"]
    assert title.endswith("…") and 10 < len(title) <= 60 and text.startswith(title[:-1])


def test_a_chat_that_begins_with_a_picture_gets_a_title(client: Client, chat_id: str) -> None:
    url = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    client.say(chat_id, [url])
    client.say(chat_id, "What is in it?")
    assert client.get(f"/{chat_id}").json["title"]


def test_a_chat_is_there_from_its_first_message_on(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream, started = start_stream(client, chat_id, "what is asked")
    chat = b.get(f"/{chat_id}")
    assert chat.status == 200, "described"
    assert chat.json["active_turn"] == started["turn_id"] and chat.json["message_count"] == 0
    assert chat.json["title"] == "what is asked"
    assert chat_id in [each["id"] for each in b.get("/chats").json["data"]], "listed"
    assert b.request("PATCH", f"/{chat_id}", {"title": "my title"}).status == 200, "renamed"
    gate.set()
    assert stream.rest()[-1].name == "completed"
    assert client.get(f"/{chat_id}").json["title"] == "my title"
    assert client.get(f"/{chat_id}").json["message_count"] == 2


@pytest.mark.parametrize("turn", [1, 2])
def test_the_message_that_is_being_answered_is_shown_to_all(
    client: Client, b: Client, model: ModelServer, chat_id: str, turn: int, gate: threading.Event
) -> None:
    if turn == 2:
        client.say(chat_id, "before")
        assert client.get(f"/{chat_id}").json["running_message"] is None
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    body = {"content": "what is asked", "metadata": {"from": "a phone"}, "stream": True}
    stream = client.stream(f"/{chat_id}/chat", body)
    started = stream.next().data
    running = b.get(f"/{chat_id}").json["running_message"]
    follower = b.stream(f"/{chat_id}/chat/stream", None, "GET")
    assert follower.next().data == started and started["user_message"] == running
    assert running["id"] == started["user_message_id"] and running["role"] == "user"
    gate.set()
    assert stream.rest()[-1].name == "completed" == follower.rest()[-1].name
    assert client.get(f"/{chat_id}/chat").json[-2] == running
    assert client.get(f"/{chat_id}").json["running_message"] is None


def test_a_first_turn_that_leaves_nothing_leaves_no_chat(
    client: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    model.enqueue(Answer(status=400, error="no"))
    assert client.say(chat_id, "x").status == 502
    assert client.get(f"/{chat_id}").status == 404
    assert chat_id not in json.dumps(client.get("/chats").json)
    assert [key for key in traces_of(redis_server, chat_id) if ":log:" not in key] == []


def test_a_chat_that_was_renamed_in_its_first_turn_outlives_the_failure_of_that_turn(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(status=400, error="no", hang=1.0))
    waiting = in_background(client.say, chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 1)
    assert b.request("PATCH", f"/{chat_id}", {"title": "kept"}).status == 200
    assert waiting.result(20).status == 502
    assert b.get(f"/{chat_id}").json["title"] == "kept"
