"""What only a running functions-framework shows: streams as they flow, clients that leave, many at once."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ROOT, UPSTREAM_KEY, Client, Function, clean_environment, wait_until


def test_deltas_arrive_while_the_model_still_speaks(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    gate = threading.Event()
    model.enqueue(Answer(pieces=["one ", "two"], gate=gate))
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    assert [stream.next().name for _ in range(2)] == ["started", "delta"]
    gate.set()
    assert [e.name for e in stream.rest()] == ["delta", "completed"]


def test_keep_alives_fill_the_silence(client: Client, model: ModelServer, chat_id: str) -> None:
    model.enqueue(Answer(pieces=["late"], pause=0.8))
    began = time.monotonic()
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    names = [event.name for event in stream.events]
    assert names[0] == "started" and names[-2:] == ["delta", "completed"]
    assert 2 <= names.count(":") <= (time.monotonic() - began) / 0.3


@pytest.mark.parametrize("leave_after", [0, 1, 2])
def test_a_turn_whose_client_left_is_stored_all_the_same(
    client: Client, model: ModelServer, chat_id: str, leave_after: int
) -> None:
    pieces = [f"{n} " for n in range(20)]
    model.enqueue(Answer(pieces=pieces, pause=0.05))
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    for _ in range(leave_after):
        stream.next()
    stream.leave()
    assert client.get(f"/{chat_id}/chat").json == []
    assert wait_until(lambda: len(client.get(f"/{chat_id}/chat").json) == 2)
    message = client.get(f"/{chat_id}/chat").json[1]
    assert (message["content"], message["status"]) == ("".join(pieces), "completed")


def test_a_client_that_left_before_the_model_answered_changes_nothing(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["after ", "all"], hang=0.7))
    with pytest.raises(Exception, match="timed out"):
        client.request("POST", f"/{chat_id}/chat", {"content": "x", "stream": True}, timeout=0.1)
    assert wait_until(lambda: len(client.get(f"/{chat_id}/chat").json) == 2)
    assert client.get(f"/{chat_id}/chat").json[1]["content"] == "after all"


def test_64_chats_at_once_keep_their_messages_and_their_order(
    start_function: Any, redis_server: RedisServer
) -> None:
    model = ModelServer().start()
    try:
        client = start_function(OPENAI_BASE_URL=model.url).client
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda chat: _talk(client, f"many-{chat}"), range(64)))
        histories = [client.get(f"/many-{chat}/chat").json for chat in range(64)]
    finally:
        model.stop()
    assert sum(map(len, histories)) == 1280
    for chat, history in enumerate(histories):
        said = [m["content"] for m in history]
        assert said[::2] == [f"many-{chat} says {n}" for n in range(10)]
        assert [m["role"] for m in history] == ["user", "assistant"] * 10
        for n, answer in enumerate(said[1::2]):
            assert f"You sent {2 * n + 1} message" in answer and f'"many-{chat} says {n}"' in answer
    replayed = {tuple(m["content"] for m in asked.body["messages"]) for asked in model.requests}
    for history in histories:
        for n in range(10):
            assert tuple(m["content"] for m in history[: 2 * n + 1]) in replayed


def _talk(client: Client, chat_id: str) -> None:
    for n in range(10):
        assert client.say(chat_id, f"{chat_id} says {n}", stream=n % 2 == 0).status == 200


def test_two_messages_at_once_to_one_chat_are_two_whole_turns(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(*(Answer(pieces=[f"answer {n}"], pause=0.1) for n in range(4)))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda n: client.say(chat_id, f"say {n}"), range(4)))
    assert [r.status for r in replies] == [200] * 4
    history = client.get(f"/{chat_id}/chat").json
    assert [m["role"] for m in history] == ["user", "assistant"] * 4
    assert [m["parent_id"] for m in history[1:]] == [m["id"] for m in history[:-1]]
    assert {r.json["id"] for r in replies} == {m["id"] for m in history[1::2]}


def test_a_busy_chat_is_told_to_whoever_does_not_want_to_wait(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    gate = threading.Event()
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    started = stream.next().data
    refused = client.say(chat_id, "y", when_busy="reject")
    assert (refused.status, refused.code) == (409, "turn_in_progress")
    assert refused.headers["x-should-retry"] == "false" and int(refused.headers["Retry-After"]) >= 1
    gate.set()
    assert stream.rest()[-1].data["turn_id"] == started["turn_id"]


def test_a_long_turn_keeps_its_lease(client: Client, model: ModelServer, chat_id: str) -> None:
    model.enqueue(Answer(pieces=["x"] * 6, pause=0.6))  # 3.6 s, and the lease is 2 s
    stream = client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True})
    time.sleep(2.8)
    assert client.say(chat_id, "y", when_busy="reject").code == "turn_in_progress"
    assert stream.rest()[-1].name == "completed"


def test_a_chat_is_usable_again_after_its_instance_was_killed(
    start_function: Any, client: Client, model: ModelServer, chat_id: str
) -> None:
    victim: Function = start_function()
    model.enqueue(Answer(pieces=["a", "b"], gate=threading.Event()))
    victim.client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True}).next()
    victim.kill()
    assert client.say(chat_id, "y", when_busy="reject").code == "turn_in_progress"
    assert client.say(chat_id, "y").status == 200


def test_redis_gone_is_told_at_once(start_function: Any, tmp_path: Any, model: ModelServer) -> None:
    redis = RedisServer(tmp_path).start()
    client = start_function(REDIS_URL=redis.url).client
    client.say("x", "before")
    redis.kill()
    body = {"content": "y"}
    for method, path in (("POST", "/x/chat"), ("GET", "/x/chat"), ("GET", "/health")):
        began = time.monotonic()
        reply = client.request(method, path, body if method == "POST" else None)
        assert (reply.status, reply.json["error"]["code"]) == (503, "store_unavailable")
        assert reply.headers["Retry-After"] and time.monotonic() - began < 2
    assert client.get("/health").json["redis"] == "unavailable"
    redis.start()
    assert client.say("x", "y").status == 200, "and it recovers by itself"
    redis.stop()


def test_a_wrong_redis_password_is_in_no_answer_and_no_log(
    start_function: Any, tmp_path: Any
) -> None:
    redis = RedisServer(tmp_path, password="right-password").start()
    function = start_function(REDIS_URL=redis.url.replace("right", "wrong"))
    reply = function.client.say("x", "y")
    redis.stop()
    assert reply.code == "store_unavailable"
    assert b"wrong-password" not in reply.body and "wrong-password" not in function.log.read_text()


def test_importing_main_starts_nothing_and_does_not_import_the_sdk() -> None:
    program = (
        "import gc, sys, threading, main\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 50_000, 'garbage is sought in all of it'\n"
        "heavy = {'openai', 'pydantic', 'httpx2', 'jwt', 'urllib3'} & set(sys.modules)\n"
        "print(sorted(heavy), threading.active_count(), main._router, __import__('os').environ['THREADS'])"
    )
    environment = clean_environment() | {"GPT_API_KEY": UPSTREAM_KEY, "REDIS_HOST": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.strip() == "[] 1 None 256", done.stderr


def test_no_answer_needed_the_sdk(function: Function, client: Client, chat_id: str) -> None:
    client.say(chat_id, "x", stream=True)
    children = Path(f"/proc/{function.pid}/task/{function.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux's /proc")
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in children.read_text().split()]
    assert any("msgspec" in text for text in maps)
    assert not any("pydantic" in text or "jiter" in text for text in maps)
