"""What is kept of people, what they can take along, and what is left when they are gone."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chat.settings import VERSION
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import (
    ADMIN_KEY,
    ENCRYPTION_KEYS,
    ROOT,
    UPSTREAM_KEY,
    Client,
    Function,
    as_admin,
    clean_environment,
    new_user,
    wait_until,
)
from tests.traces import dump, log_lines

SECRET = "the treasure is under the old oak 😀"
OLD_KEY, NEW_KEY = ENCRYPTION_KEYS


@pytest.fixture(scope="session")
def users_function(start_function: Any) -> Function:
    function: Function = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY, RATE_LIMIT="1000/hour")
    return function


@pytest.fixture
def base(users_function: Function, model: ModelServer) -> str:
    return users_function.client.base


def _talk(user: Client, chat_id: str) -> None:
    """Everything an owner can leave behind: two dialects, branches, a running turn, metadata."""
    first = user.say(chat_id, SECRET, metadata={"where": SECRET}, stream=False).json
    user.say(chat_id, "again", parent_id=first["parent_id"], stream=True)
    user.request(
        "PATCH", f"/{chat_id}", {"title": SECRET, "system": SECRET, "metadata": {"x": SECRET}}
    )
    user.post("/conversations/new", {"prompt": SECRET, "title": SECRET})
    user.post("/conversation", None)


def test_the_export_holds_every_chat_and_message_and_nobody_elses(base: str, chat_id: str) -> None:
    (_, user), (_, other) = new_user(base), new_user(base)
    _talk(user, chat_id)
    other.say(chat_id, "not yours")
    reply = user.get("/me/export")
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.body.decode().splitlines()]
    chats = {line["chat"]["id"]: line["chat"] for line in lines if line["type"] == "chat"}
    assert (
        set(chats) == {chat["id"] for chat in user.get("/chats").json["data"]} and len(chats) == 3
    )
    told = [line["message"] for line in lines if line.get("chat_id") == chat_id]
    assert len(told) == chats[chat_id]["message_count"] == 4, "of all branches"
    assert told[0]["metadata"] == {"where": SECRET} and b"not yours" not in reply.body


def test_the_export_of_a_long_history_comes_in_pieces(
    base: str, redis_server: RedisServer, chat_id: str
) -> None:
    user_id, user = new_user(base)
    user.say(chat_id, "x")
    place = f"ck:{{{user_id}}}:history:{chat_id}"
    redis, count = redis_server.client(), 4002
    message = redis.lindex(place, 0)
    for _ in range(40):
        redis.rpush(place, *[message] * 100)
    redis.hset(f"ck:{{{user_id}}}:chat:{chat_id}", "message_count", count)
    reply = user.get("/me/export")
    assert reply.body.count(b'"type":"message"') == count
    assert reply.headers.get("Transfer-Encoding") == "chunked"


@pytest.mark.parametrize("how", ["me", "admin"])
def test_nothing_in_redis_names_an_owner_who_was_erased(
    base: str, model: ModelServer, redis_server: RedisServer, chat_id: str, how: str
) -> None:
    user_id, user = new_user(base, daily_token_budget=10**9)
    _, other = new_user(base)
    other.say(chat_id, "stays")
    _talk(user, chat_id)
    model.enqueue(Answer(pieces=["a", "b"], gate=threading.Event()))
    running = user.stream(f"/{chat_id}-first/chat", {"content": "x", "stream": True})
    running.next()
    if how == "me":
        assert user.request("DELETE", "/me").status == 204
    else:
        erased = as_admin(base).request("DELETE", f"/admin/users/{user_id}?erase=true")
        assert erased.status == 204
    assert user.get("/me").status == 401
    assert running.rest()[-1].name in ("cancelled", "failed")
    for _ in range(2):
        assert user_id.encode() not in dump(redis_server)
        time.sleep(0.2)
    assert user_id not in as_admin(base).get("/admin/users").body.decode()
    assert user_id not in as_admin(base).get("/admin/usage").body.decode()
    assert len(other.get(f"/{chat_id}/chat").json) == 2


def test_erasing_somebody_who_never_was_is_no_error(base: str) -> None:
    assert as_admin(base).request("DELETE", "/admin/users/nobody?erase=true").status == 204


def _sealed(start_function: Any, redis: RedisServer, key: str, **settings: str) -> Client:
    client: Client = start_function(
        ENCRYPTION_KEY=key, REDIS_URL=redis.url, REDIS_CLUSTER="no", **settings
    ).client
    return client


def test_what_is_said_is_nowhere_readable_in_redis_or_its_file(
    start_function: Any, model: ModelServer, tmp_path: Path, chat_id: str
) -> None:
    redis = RedisServer(tmp_path / "redis", persist=True).start()
    try:
        client, second = (_sealed(start_function, redis, OLD_KEY, TITLES="model") for _ in range(2))
        model.enqueue(Answer(pieces=[SECRET]), Answer(pieces=[SECRET]))  # and as a title
        client.say(chat_id, SECRET, stream=True)
        assert wait_until(lambda: client.get(f"/{chat_id}").json["title"] == SECRET)
        _talk(client, chat_id)
        model.enqueue(Answer(status=400, error=SECRET))
        client.stream(f"/{chat_id}/chat", {"content": SECRET, "stream": True}).response.read()
        gate = threading.Event()
        model.enqueue(Answer(pieces=[SECRET, SECRET, "end"], gate=gate))
        stream = client.stream(f"/{chat_id}/chat", {"content": SECRET, "stream": True})
        stream.next(), stream.next(), stream.next()
        tail = second.stream(f"/{chat_id}/chat/stream", None, "GET")
        assert [tail.next().name, tail.next().data["text"]][1].startswith(SECRET)
        assert b"treasure" not in dump(redis)
        gate.set()
        assert stream.rest()[-1].data["content"] == SECRET * 2 + "end"
        tail.rest()
        assert b"treasure" not in dump(redis)
        files = [path.read_bytes() for path in (tmp_path / "redis").rglob("*") if path.is_file()]
        assert any(b"ck:{anonymous}" in data for data in files), "the file was looked at"
        assert not any(b"treasure" in data for data in files)
        history = second.get(f"/{chat_id}/chat").json
        assert history[-2]["content"] == SECRET and history[-1]["content"].startswith(SECRET)
        assert second.get(f"/{chat_id}").json["metadata"] == {"x": SECRET}
        assert SECRET.encode() in second.get("/me/export").body
        prompt = second.post(f"/{chat_id}/chat/preview", {"content": "x"}).json["messages"]
        assert prompt[0] == {"role": "system", "content": SECRET}
    finally:
        redis.stop()


def test_the_key_can_be_changed_and_plain_chats_stay_readable(
    start_function: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    for key in ("", OLD_KEY, f"{NEW_KEY},{OLD_KEY}"):
        client = _sealed(start_function, own_redis, key)
        assert client.say(chat_id, f"under {key[:2]}").status == 200
    said = [m["content"] for m in client.get(f"/{chat_id}/chat").json if m["role"] == "user"]
    assert said == ["under ", "under ab", "under cd"]
    blind = _sealed(start_function, own_redis, NEW_KEY)
    reply = blind.get(f"/{chat_id}/chat")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"ENCRYPTION_KEY" in reply.body
    assert blind.say(chat_id, "x").status == 500
    assert client.say(chat_id, "x").status == 200, "and the chat is not stuck"


def test_a_sealed_message_opens_in_its_own_chat_only(
    start_function: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    client = _sealed(start_function, own_redis, OLD_KEY)
    client.say(f"{chat_id}-a", SECRET)
    client.say(f"{chat_id}-b", "x")
    stolen = own_redis.client().lindex(f"ck:{{anonymous}}:history:{chat_id}-a", 0)
    own_redis.client().lset(f"ck:{{anonymous}}:history:{chat_id}-b", 0, stolen)
    reply = client.get(f"/{chat_id}-b/chat")
    assert reply.status == 500 and b"treasure" not in reply.body


def test_each_request_leaves_one_line_that_cloud_logging_understands(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    function = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY, GOOGLE_CLOUD_PROJECT="my-project")
    user_id, user = new_user(function.client.base)
    trace = "0af7651916cd43dd8448eb211c80319c"
    body = {"content": SECRET, "stream": True}
    stream = user.stream(
        f"/{chat_id}/chat", body, X_Cloud_Trace_Context=f"{trace}/1;o=1", X_Request_Id="r-1"
    )
    turn = stream.next().data["turn_id"]
    stream.rest()
    user.get(f"/{chat_id}/nothing", traceparent=f"00-{trace}-b7ad6b7169203331-01")
    model.enqueue(*[Answer(status=500)] * 3)
    user.say(chat_id, SECRET)
    assert wait_until(lambda: len(log_lines(function)) >= 5)
    lines = {line["message"]: line for line in log_lines(function)}
    said = lines["POST /<chat_id>/chat 200"]
    measured = "milliseconds first_token_milliseconds tokens_in tokens_out".split()
    assert all(said.pop(name) > 0 for name in measured)
    assert said == {
        "severity": "INFO",
        "message": "POST /<chat_id>/chat 200",
        "logging.googleapis.com/trace": f"projects/my-project/traces/{trace}",
        "method": "POST",
        "route": "/<chat_id>/chat",
        "owner": user_id,
        "chat": chat_id,
        "turn": turn,
        "ending": "completed",
        "stream": True,
        "model": "gpt-5.4-mini",
        "attempts": 1,
        "upstream_status": 200,
        "version": VERSION,
        "status": 200,
        "request_id": "r-1",
    }
    assert lines["GET  404"]["logging.googleapis.com/trace"].endswith(trace)
    assert lines["POST /<chat_id>/chat 503"]["severity"] == "ERROR"
    text = function.log.read_text()
    assert "treasure" not in text and ADMIN_KEY not in text
    assert not re.search(r"ck_[\w.~-]+_[0-9a-f]{48}", text)


def test_neither_redis_nor_the_log_holds_a_key(
    base: str, users_function: Function, redis_server: RedisServer, chat_id: str
) -> None:
    _, user = new_user(base)
    user.say(chat_id, "x")
    key = user.headers["Authorization"].removeprefix("Bearer ")
    user.get(f"/me?admin_key={ADMIN_KEY}&key={key}")
    Client(base).get(f"/{key}")
    secrets = [
        key.encode(),
        key.rpartition("_")[2].encode(),
        ADMIN_KEY.encode(),
        UPSTREAM_KEY.encode(),
    ]
    for place in (dump(redis_server), users_function.log.read_bytes()):
        assert not any(secret in place for secret in secrets)


def test_every_answer_is_safe_to_show_in_a_browser(client: Client, chat_id: str) -> None:
    answers = [client.say(chat_id, "x"), client.get(f"/{chat_id}/chat"), client.get("/a%0Ab")]
    answers += [
        client.get("/health"),
        client.request("OPTIONS", "/chats"),
        client.post("/ask", b"{"),
    ]
    answers += [client.say(chat_id, "x", stream=True)]
    for reply in answers:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert "max-age" in reply.headers["Strict-Transport-Security"]
        assert re.search("no-store|no-cache", reply.headers["Cache-Control"])


def test_without_its_admin_key_it_does_not_start(tmp_path: Path, redis_server: RedisServer) -> None:
    environment = clean_environment() | {"REDIS_URL": redis_server.url, "GPT_API_KEY": "k"}
    done = subprocess.run(
        [sys.executable, "-c", "import main"],
        cwd=ROOT,
        env=environment | {"K_SERVICE": "chat"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and "ADMIN_KEY: is missing" in done.stderr
