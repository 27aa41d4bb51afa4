"""Nobody sees what is another's, or what was deleted: caches, ETags, keys of repeats, late titles."""

import hashlib
import json
import re
import threading
import time
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, ENCRYPTION_KEYS, Client, Function, Reply, new_user, wait_until

ETAG = re.compile(r'"([A-Za-z0-9_-]+)\.([0-9]+)"')


@pytest.fixture(scope="module")
def keys_function(start_function: Any) -> Function:
    function: Function = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY)
    return function


@pytest.fixture
def user(keys_function: Function, model: ModelServer) -> Client:
    return new_user(keys_function.client.base)[1]


@pytest.fixture
def other(keys_function: Function, model: ModelServer) -> Client:
    return new_user(keys_function.client.base)[1]


def mark_of(reply: Reply) -> str:
    match = ETAG.fullmatch(reply.headers["ETag"])
    assert match, reply.headers["ETag"]
    return match[1]


class SharedCache:
    """A cache that knows nothing of users: it keeps what it got and asks whether that is current."""

    def __init__(self) -> None:
        self._kept: dict[str, Reply] = {}

    def get(self, client: Client, path: str) -> Any:
        kept = self._kept.get(path)
        headers = {"If_None_Match": kept.headers["ETag"]} if kept else {}
        reply = client.get(path, **headers)
        if reply.status == 304 and kept:
            return kept.json
        self._kept[path] = reply
        return reply.json


def test_a_browser_that_two_people_use_never_shows_one_what_the_other_said(
    user: Client, other: Client
) -> None:
    user.say("main", "mine")
    other.say("main", "yours")
    cache = SharedCache()
    assert cache.get(user, "/main/chat")[0]["content"] == "mine"
    assert cache.get(other, "/main/chat")[0]["content"] == "yours"
    assert cache.get(user, "/main/chat")[0]["content"] == "mine"


@pytest.mark.parametrize(
    "path",
    "/{}/chat /{} /chats /me /me/export /{}/chat/stream /conversations"
    " /conversations/{}/messages /conversation".split(),
)
def test_an_answer_with_content_says_whom_it_is_for(user: Client, chat_id: str, path: str) -> None:
    user.say(chat_id, "x", stream=True)
    assert_private(user.get(path.format(chat_id)))


def test_an_answer_to_a_message_says_whom_it_is_for(user: Client, chat_id: str) -> None:
    for stream in (False, True):
        assert_private(user.say(chat_id, "x", stream=stream))
    kept = user.get(f"/{chat_id}/chat")
    same = user.get(f"/{chat_id}/chat", If_None_Match=kept.headers["ETag"])
    assert (same.status, same.headers["ETag"]) == (304, kept.headers["ETag"])
    assert_private(same)


def assert_private(reply: Reply) -> None:
    assert reply.status in (200, 304), reply.body
    varies = {name.strip().lower() for name in reply.headers.get("Vary", "").split(",")}
    assert {"authorization", "x-firebase-appcheck"} <= varies, reply.headers.get("Vary")
    kept = reply.headers["Cache-Control"]
    if reply.headers.get("Content-Type") == "text/event-stream":
        assert "no-cache" in kept
    else:  # what is revalidated by its ETag may be kept, but by the asker's own cache only
        assert "no-store" in kept or ("private" in kept and "ETag" in reply.headers), kept


def test_an_etag_is_the_mark_of_the_chat_and_a_revision_that_grows(
    user: Client, other: Client, chat_id: str
) -> None:
    said = user.say(chat_id, "x")
    mark = mark_of(said)
    assert said.headers["ETag"] == f'"{mark}.2"'
    for path in (f"/{chat_id}", f"/{chat_id}/chat"):
        assert user.get(path).headers["ETag"] == f'"{mark}.2"'
    assert user.say(chat_id, "y").headers["ETag"] == f'"{mark}.4"'
    assert mark_of(other.say(chat_id, "x")) != mark
    assert mark_of(user.say(f"{chat_id}-2", "x")) != mark


def test_the_etag_of_a_deleted_chat_matches_none_that_follows(user: Client, chat_id: str) -> None:
    old = user.say(chat_id, "the old one").headers["ETag"]
    user.request("DELETE", f"/{chat_id}")
    user.say(chat_id, "the new one")
    again = user.get(f"/{chat_id}/chat", If_None_Match=old)
    assert (again.status, again.json[0]["content"]) == (200, "the new one")
    assert user.get(f"/{chat_id}", If_None_Match=old).status == 200
    refused = user.post(f"/{chat_id}/chat", {"content": "on old ground"}, If_Match=old)
    assert (refused.status, refused.code) == (412, "chat_changed")
    assert refused.headers["ETag"] == user.get(f"/{chat_id}/chat").headers["ETag"]
    assert [m["content"] for m in refused.json["messages"]][:1] == ["the new one"]


def test_the_etag_of_anothers_chat_is_no_ground_to_speak_on(
    user: Client, other: Client, chat_id: str
) -> None:
    user.say(chat_id, "x")
    etag = other.say(chat_id, "y").headers["ETag"]
    assert user.post(f"/{chat_id}/chat", {"content": "z"}, If_Match=etag).status == 412
    assert len(user.get(f"/{chat_id}/chat").json) == 2


def test_the_etag_of_a_chat_that_is_not_there_lets_the_first_message_in_and_no_second(
    user: Client, chat_id: str
) -> None:
    etag = user.get(f"/{chat_id}/chat").headers["ETag"]
    assert user.post(f"/{chat_id}/chat", {"content": "x"}, If_Match=etag).status == 200
    assert user.post(f"/{chat_id}/chat", {"content": "x"}, If_Match=etag).status == 412


def test_a_title_that_comes_late_belongs_to_the_chat_that_was(
    start_briefly: Any, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    client: Client = start_briefly(TITLES="model").client
    old = "What the old chat was about"
    model.enqueue(Answer(pieces=["a"]), Answer(pieces=[old], gate=gate))
    client.say(chat_id, "an illness")
    assert wait_until(lambda: len(model.requests) == 2), "the title is being made"
    assert client.request("DELETE", f"/{chat_id}").status == 204
    model.enqueue(Answer(pieces=["b"]), Answer(status=400, error="no title"))
    assert client.say(chat_id, "a holiday").status == 200
    assert wait_until(lambda: len(model.requests) == 4)
    gate.set()
    assert not wait_until(lambda: client.get(f"/{chat_id}").json["title"] == old, 1.5)


def test_a_late_title_does_not_make_a_deleted_chat_again(
    start_briefly: Any, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    client: Client = start_briefly(TITLES="model").client
    gate = threading.Event()
    model.enqueue(Answer(pieces=["a"]), Answer(pieces=["late"], gate=gate))
    client.say(chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 2)
    client.request("DELETE", f"/{chat_id}")
    gate.set()
    time.sleep(0.3)  # nothing is to happen, and nobody tells of it
    assert client.get(f"/{chat_id}").status == 404
    assert f"chat:{chat_id}".encode() not in b"\n".join(redis_server.client().keys("*"))


def _everything_of(redis: RedisServer, part: str) -> bytes:
    client, found = redis.client(), []
    for key in client.scan_iter(f"*{part}*", count=1000):
        kind = client.type(key)
        read = {b"hash": client.hgetall, b"string": client.get, b"zset": client.zscan}.get(kind)
        found.append(key + repr(read(key) if read else "").encode())
    return b"\n".join(found)


@pytest.mark.parametrize("header", ["Idempotency_Key", "X_Stainless_Retry_Count"])
def test_what_is_kept_of_a_repeat_does_not_let_anybody_guess_the_message(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer, header: str
) -> None:
    client: Client = start_briefly(
        ENCRYPTION_KEY=ENCRYPTION_KEYS[0], REDIS_URL=own_redis.url, REDIS_CLUSTER="no"
    ).client
    said = {"content": "my PIN is 4711"}
    assert client.post("/pin/chat", said, **{header: "1"}).status == 200
    forms = [json.dumps(said), json.dumps(said, separators=(",", ":")), '"my PIN is 4711"']
    forms += ["my PIN is 4711", "1", "anonymous"]
    kept = _everything_of(own_redis, "pin")
    for hashed in (hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b):
        for form in forms:
            assert hashed(form.encode()).hexdigest()[:12].encode() not in kept, (hashed, form)


def test_what_is_kept_of_a_repeat_differs_from_owner_to_owner(
    start_briefly: Any, model: ModelServer, own_redis: RedisServer
) -> None:
    base = start_briefly(
        AUTH="keys", ADMIN_KEY=ADMIN_KEY, REDIS_URL=own_redis.url, REDIS_CLUSTER="no"
    ).client.base
    kept = []
    for _ in range(2):
        owner, user = new_user(base)
        assert user.post("/c/chat", {"content": "yes"}, Idempotency_Key="k").status == 200
        kept.append(set(re.findall(rb"[0-9a-f]{16,}", _everything_of(own_redis, owner))))
    assert not kept[0] & kept[1]
