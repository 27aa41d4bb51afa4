"""503 means that nothing is stored, now or later; no turn is begun that nobody drives."""

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, new_user, wait_until
from tests.promises import frozen, in_background, keys_of
from tests.proxy import RedisProxy
from tests.traces import traces_of

FREEZE_SECONDS = 1.75
LEASE_SECONDS = 2.0


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Any]:
    """Start an instance on a Redis of its own."""

    def start(**settings: str) -> Function:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        function: Function = start_briefly(**own | settings)
        return function

    return start


def assert_nothing_comes_of_it(client: Client, chat_id: str, count: int = 0) -> None:
    """The chat is free at once, and nothing turns up in it when a lease would have run out."""
    chat = client.get(f"/{chat_id}")
    assert chat.status == 404 or chat.json["active_turn"] is None, chat.body
    assert not wait_until(
        lambda: len(client.get(f"/{chat_id}/chat").json) != count, LEASE_SECONDS + 0.5
    ), client.get(f"/{chat_id}/chat").body


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_that_met_a_short_freeze_is_answered_or_leaves_nothing(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, stream: bool
) -> None:
    client = start().client
    chats = [f"{chat_id}-{n}" for n in range(4)]
    assert {client.say(chat, "x").status for chat in chats} == {200}
    with frozen(own_redis) as thaw:
        timer = threading.Timer(FREEZE_SECONDS, thaw)
        timer.start()
        waiting = []
        for chat in chats:
            waiting.append(in_background(client.say, chat, "y", stream=stream))
            time.sleep(0.05)
        replies = [future.result(20) for future in waiting]
        timer.join()
    for chat, reply in zip(chats, replies, strict=True):
        if reply.status != 200:
            assert (reply.status, reply.code) == (503, "store_unavailable")
            active = client.get(f"/{chat}").json["active_turn"]
            assert active is None, "nobody drives it"
    time.sleep(LEASE_SECONDS + 0.5)
    for chat, reply in zip(chats, replies, strict=True):
        assert len(client.get(f"/{chat}/chat").json) == (4 if reply.status == 200 else 2)
    assert len(model.requests) == 4 + sum(reply.status == 200 for reply in replies)


def test_the_first_message_of_an_instance_whose_redis_is_away_leaves_nothing(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    start().client.say("another", "so that Redis knows the scripts")
    client = start().client
    with frozen(own_redis):
        replies = [client.say(f"{chat_id}-{n}", "x") for n in range(2)]
    assert [reply.status for reply in replies] == [503, 503]
    for n in range(2):
        assert_nothing_comes_of_it(client, f"{chat_id}-{n}")
    assert len(model.requests) == 1


def test_what_was_refused_during_a_freeze_is_not_done_after_it(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    client = start().client
    assert client.say(chat_id, "x").status == 200
    assert client.request("PATCH", f"/{chat_id}", {"title": "before"}).status == 200
    assert client.post("/conversation", None).status == 200, "so that Redis knows the scripts"
    with frozen(own_redis) as thaw:
        timer = threading.Timer(FREEZE_SECONDS, thaw)
        timer.start()
        changed = in_background(client.request, "PATCH", f"/{chat_id}", {"title": "changed"})
        made = in_background(client.post, "/conversation", None)
        replies = [changed.result(20), made.result(20)]
        timer.join()
    time.sleep(0.2)  # Redis runs what it finds in its sockets
    done = [client.get(f"/{chat_id}").json["title"] == "changed"]
    done += [len(client.get("/chats").json["data"]) == 3]
    assert done == [reply.status == 200 for reply in replies], replies


@pytest.mark.parametrize(
    "losses",
    [1, 2],
)
def test_a_begin_whose_reply_was_lost_is_retried_or_taken_back(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, losses: int
) -> None:
    with RedisProxy(own_redis) as proxy:
        client = start(REDIS_URL=proxy.url).client
        assert client.say(chat_id, "x").status == 200
        proxy.lose(b"marked-words", losses)
        reply = client.say(chat_id, "marked-words", stream=True)
        assert proxy.lost == losses
        if reply.status == 200:
            assert len(client.get(f"/{chat_id}/chat").json) == 4
        else:
            assert reply.status == 503
            assert_nothing_comes_of_it(client, chat_id, count=2)


@pytest.mark.parametrize("how", ["stop", "delete", "rollback"])
def test_a_begin_that_is_sent_twice_does_not_begin_what_was_ended_in_between(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, how: str
) -> None:
    with RedisProxy(own_redis) as proxy:
        client, b = start(REDIS_URL=proxy.url, LEASE_SECONDS="0.5").client, start().client
        assert client.say(chat_id, "x").status == b.get(f"/{chat_id}").status == 200
        ended: list[int] = []

        def end() -> None:
            time.sleep(0.6)  # so that nobody waits for its producer
            if how == "stop":
                ended.append(b.post(f"/{chat_id}/chat/stop", None).status)
            elif how == "delete":
                ended.append(b.request("DELETE", f"/{chat_id}").status)
            else:
                ended.append(b.say(chat_id, "instead", when_busy="rollback").status)

        proxy.lose(b"marked-words", 1, end)
        reply = client.say(chat_id, "marked-words", stream=True)
        assert proxy.lost == 1 and ended in ([200], [204]), ended
        assert reply.status in (200, 404, 409, 503), reply.body
        if reply.status == 200:
            assert reply.events[-1].name in ("cancelled", "failed")
        chat = b.get(f"/{chat_id}")
        assert chat.status == (404 if how == "delete" else 200)
        assert how == "delete" or chat.json["active_turn"] is None
        asked = [request.body["messages"][-1]["content"] for request in model.requests]
        assert "marked-words" not in asked, "what was ended is not said to the model"
        said = [m["content"] for m in b.get(f"/{chat_id}/chat").json if m["role"] == "user"]
        assert said == {"stop": ["x", "marked-words"], "delete": []}.get(how, ["x", "instead"])


def test_json_that_is_nested_deeper_than_python_likes_is_refused_and_leaves_the_chat_free(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    function = start()
    statuses = set()
    for depth in [*range(900, 1000, 2), *range(970, 980), 1200]:
        nested = '{"a":' * depth + "1" + "}" * depth
        body = f'{{"content": "x", "metadata": {nested}}}'.encode()
        statuses.add(function.client.post(f"/{chat_id}-{depth}/chat", body).status)
        chat = function.client.get(f"/{chat_id}-{depth}")
        assert chat.status == 404 or chat.json["active_turn"] is None, depth
    assert statuses <= {200, 400}
    assert "Traceback" not in function.log.read_text()


def test_a_model_that_does_not_read_is_given_up_and_its_turn_is_never_taken_for_dead(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    with socket.socket() as model:
        model.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        model.bind(("127.0.0.1", 0))
        model.listen(8)
        function = start(
            OPENAI_BASE_URL=f"http://127.0.0.1:{model.getsockname()[1]}/v1",
            UPSTREAM_TIMEOUT_SECONDS="4",
            LEASE_SECONDS="1",
            MAX_BODY_BYTES=str(16 * 2**20),
            MAX_PROMPT_TOKENS=str(10**7),
            MAX_PROMPT_BYTES=str(16 * 2**20),
        )
        client = function.client
        waiting = in_background(client.say, chat_id, "x" * (8 * 2**20))
        assert wait_until(lambda: _active_turn(own_redis, chat_id)), "it has begun"
        assert not wait_until(lambda: client.get(f"/{chat_id}/chat").json, 2.5), "taken for dead"
        reply = waiting.result(30)
    assert reply.status in (503, 504), reply.body
    assert_nothing_comes_of_it(client, chat_id)


def _active_turn(redis: RedisServer, chat_id: str) -> bool:
    return any(f":chat:{chat_id}".encode() in key for key in redis.client().keys("*"))


@pytest.mark.parametrize("path", ["/{}", "/me"])
def test_a_chat_with_eight_thousand_ended_logs_can_be_deleted(
    start: Any, own_redis: RedisServer, chat_id: str, path: str
) -> None:
    client = start(LOG_SECONDS="600").client
    assert client.say(chat_id, "x", stream=True).status == 200
    redis = own_redis.client()
    chat = f"ck:{{anonymous}}:chat:{chat_id}"
    (log,) = redis.scan_iter(f"*:log:{chat_id}:*", count=1000)
    nonce = log.rpartition(b":")[2]
    noted = re.search(rb"%b@\d+" % nonce, redis.hget(chat, "logs") or b"")
    assert noted, "ended logs are noted elsewhere by now: note 8,000 of them there"
    nonces = [f"{number:024x}".encode() for number in range(8000)]
    with redis.pipeline() as pipe:
        pipe.hset(chat, "logs", b" ".join(noted[0].replace(nonce, n) for n in [nonce, *nonces]))
        for other in nonces:
            pipe.xadd(log.replace(nonce, other), {"x": ""}, id="1-0")
        pipe.execute()
    assert client.request("DELETE", path.format(chat_id)).status == 204
    assert traces_of(own_redis, chat_id) == []
    assert client.say(chat_id, "x").status == 200


def test_a_user_who_has_never_been_is_refused_without_waiting_for_redis_twice(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    function = start(AUTH="keys", ADMIN_KEY=ADMIN_KEY)
    _, user = new_user(function.client.base)
    with frozen(own_redis):
        began = time.monotonic()
        assert user.say(chat_id, "x").status == 503
        assert time.monotonic() - began < 4
    assert_nothing_comes_of_it(user, chat_id)


def test_an_answer_that_could_not_be_stored_says_so_and_is_not_stored_later(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str, gate: threading.Event
) -> None:
    client = start(STORE_PATIENCE_SECONDS="0", LEASE_SECONDS="15").client
    client.say("another", "so that Redis knows the scripts")
    model.enqueue(Answer(pieces=["all of ", "it"], gate=gate))
    waiting = in_background(client.say, chat_id, "x")
    assert wait_until(lambda: len(model.requests) == 2)
    with frozen(own_redis):
        gate.set()
        reply = waiting.result(20)
    assert (reply.status, reply.code) == (503, "store_unavailable")
    assert not wait_until(lambda: client.get(f"/{chat_id}/chat").json, 1)
    assert wait_until(lambda: not keys_of(own_redis, chat_id), 5), "it is taken back"
