"""Bytes are limited as well as counts, and slow or hostile clients hold neither threads nor memory."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, Client, Function, Reply, new_user, wait_until
from tests.promises import answers_within, exchange, head_of, held_open, keys_of, peak_mib

SOON_SECONDS = 2.0
KB = 1024


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


def assert_too_large(reply: Reply, param: str) -> None:
    assert (reply.status, reply.code) == (400, "invalid_field"), reply.body
    assert reply.json["error"]["param"] == param


# --- slow clients ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few_threads(start_function: Any) -> Function:
    function: Function = start_function(
        THREADS="8", AUTH="keys", ADMIN_KEY=ADMIN_KEY, CLIENT_TIMEOUT_SECONDS="1"
    )
    return function


def test_who_has_no_key_is_not_waited_for(few_threads: Function, chat_id: str) -> None:
    began = time.monotonic()
    for headers in ((), ("Authorization: ck_nobody_" + "0" * 48,)):
        reply = exchange(few_threads.port, head_of("POST", f"/{chat_id}/chat", 1000, *headers))
        assert reply.startswith(b"HTTP/1.1 401"), reply[:100]
    assert time.monotonic() - began < SOON_SECONDS


@pytest.mark.parametrize("what", ["body of a stranger", "body of a user", "head"])
def test_slow_requests_of_some_leave_room_for_others(
    few_threads: Function, model: ModelServer, chat_id: str, what: str
) -> None:
    _, user = new_user(few_threads.client.base)
    key = f"Authorization: {user.headers['Authorization']}"
    head = head_of("POST", f"/{chat_id}/chat", 1000, *([key] if "user" in what else []))
    data = head[:40] if what == "head" else head + b'{"c'
    with held_open(few_threads.port, 16, data):
        time.sleep(2.5)  # CLIENT_TIMEOUT_SECONDS, and some more for a busy machine
        assert answers_within(SOON_SECONDS, few_threads.client)


def test_histories_that_nobody_reads_leave_room_for_others(
    start_briefly: Any, model: ModelServer, chat_id: str
) -> None:
    function = start_briefly(THREADS="8", MAX_PROMPT_TOKENS=str(10**7))
    for _ in range(8):
        assert function.client.say(chat_id, "x" * 900_000).status == 200
    with held_open(function.port, 24, head_of("GET", f"/{chat_id}/chat"), receive_bytes=4096):
        time.sleep(0.3)
        assert answers_within(SOON_SECONDS, function.client)
        began = time.monotonic()
        assert function.client.say(f"{chat_id}-2", "x").status == 200
        assert time.monotonic() - began < SOON_SECONDS


# --- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, fits, too_large",
    [
        ("metadata", {"a": "x" * 16_000}, {"a": "x" * 16 * KB}),
        ("metadata", {"a": "é" * 8_000}, {"a": "é" * 8 * KB}),
        ("system", "x" * 64 * KB, "x" * (64 * KB + 1)),
        ("system", "é" * 32 * KB, "é" * (32 * KB + 1)),
    ],
    ids="metadata metadata-in-bytes system system-in-bytes".split(),
)
def test_a_field_of_a_message_or_of_a_change_has_a_limit_in_bytes(
    client: Client, model: ModelServer, chat_id: str, field: str, fits: Any, too_large: Any
) -> None:
    assert client.say(chat_id, "x", **{field: fits}).status == 200
    assert client.request("PATCH", f"/{chat_id}", {field: fits}).status == 200
    asked = len(model.requests)
    assert_too_large(client.say(chat_id, "x", **{field: too_large}), field)
    assert_too_large(client.request("PATCH", f"/{chat_id}", {field: too_large}), field)
    assert len(model.requests) == asked and len(client.get(f"/{chat_id}/chat").json) == 2


def test_a_title_has_512_bytes_at_most(client: Client, chat_id: str) -> None:
    client.say(chat_id, "x")
    for title in ("x" * 512, "é" * 256):
        assert client.request("PATCH", f"/{chat_id}", {"title": title}).status == 200
        made = client.post("/conversations/new", {"prompt": "x", "title": title})
        assert made.status == 201
    for title in ("x" * 513, "é" * 257):
        assert_too_large(client.request("PATCH", f"/{chat_id}", {"title": title}), "title")
        refused = client.post("/conversations/new", {"prompt": "x", "title": title})
        assert_too_large(refused, "title")


def test_an_id_has_128_characters_at_most(client: Client, chat_id: str) -> None:
    assert client.say("c" * 128, "x").status == 200
    assert client.say("c" * 129, "x").code == "invalid_chat_id"
    assert_too_large(client.say(chat_id, "x", parent_id="msg_" + "0" * 125), "parent_id")


# --- prompts, pages, answers ----------------------------------------------------------------------


def fill(redis: RedisServer, chat_id: str, copies: int) -> int:
    """Have a history of one turn hold so many copies of it; how many messages it has then."""
    client = redis.client()
    (history,) = (key for key in keys_of(redis, chat_id) if ":history:" in key)
    (chat,) = (key for key in keys_of(redis, chat_id) if f":chat:{chat_id}" in key)
    turn = client.lrange(history, 0, -1)
    for _ in range(copies - 1):
        client.rpush(history, *turn)
    client.hset(chat, "message_count", 2 * copies)
    return 2 * copies


def a_picture(size: int) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}]


@pytest.fixture
def start(start_briefly: Any, model: ModelServer, own_redis: RedisServer) -> Callable[..., Any]:
    def start(**settings: str) -> Function:
        own = {"REDIS_URL": own_redis.url, "REDIS_CLUSTER": "no"}
        function: Function = start_briefly(**own | settings)
        return function

    return start


def test_a_prompt_has_a_limit_in_bytes(
    start: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    client = start(MAX_PROMPT_BYTES=str(2_000_000)).client
    assert client.say(chat_id, a_picture(500_000)).status == 200
    fill(own_redis, chat_id, 8)
    assert client.say(chat_id, "what was in them?").status == 200
    sent = model.requests[-1].body["messages"]
    size = len(json.dumps(sent))
    assert 500_000 < size <= 2_000_000
    assert sent[-1]["content"] == "what was in them?" and sent[0]["role"] == "user"


def test_a_page_of_the_history_has_a_limit_in_bytes_and_its_link_leads_to_the_rest(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    client = start(MAX_PAGE_BYTES=str(2_000_000), MAX_PROMPT_TOKENS=str(10**7)).client
    for n in range(6):
        assert client.say(chat_id, f"m{n} " + "x" * 700_000).status == 200
    said: list[str] = []
    path = f"/{chat_id}/chat"
    for _ in range(10):
        page = client.get(path)
        size = len(page.body)
        assert size <= 2_000_000
        said = [m["content"][:2] for m in page.json if m["role"] == "user"] + said
        if "Link" not in page.headers:
            break
        query = page.headers["Link"].partition("?")[2].partition(">")[0]
        path = f"/{chat_id}/chat?{query}"
    assert said == [f"m{n}" for n in range(6)]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_a_limit_in_bytes_and_is_kept_up_to_it(
    start: Any, model: ModelServer, chat_id: str, stream: bool
) -> None:
    client = start(MAX_ANSWER_BYTES="100000").client
    model.enqueue(Answer(pieces=["é" * 5_000] * 60))
    reply = client.say(chat_id, "x", stream=stream)
    message = reply.events[-1].data if stream else reply.json
    size = len(message["content"].encode())
    assert 50_000 <= size <= 100_000
    assert (message["finish_reason"], message["status"]) == ("length", "completed")
    assert client.get(f"/{chat_id}/chat").json[1] == message


def test_memory_holds_whatever_one_owner_has_stored(
    start: Any, own_redis: RedisServer, chat_id: str
) -> None:
    function = start()
    client = function.client
    assert client.say(chat_id, a_picture(900_000)).status == 200
    fill(own_redis, chat_id, 48)
    with ThreadPoolExecutor(8) as pool:
        preview = lambda _: client.post(f"/{chat_id}/chat/preview", {"content": "x"}).status  # noqa: E731
        history = lambda _: client.get(f"/{chat_id}/chat").status  # noqa: E731
        statuses = [*pool.map(preview, range(4)), *pool.map(history, range(4))]
    assert peak_mib(function) < 300
    assert set(statuses) == {200}


def test_memory_holds_whatever_the_model_sends(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    function = start()
    content = json.dumps("x" * 40_000_000)
    choice = (
        f'{{"index":0,"message":{{"role":"assistant","content":{content}}},"finish_reason":"stop"}}'
    )
    model.enqueue(Answer(raw=f'{{"choices":[{choice}]}}'.encode()))
    reply = function.client.say(chat_id, "x")
    size = len(reply.body)
    assert reply.status in (200, 502) and size < 20_000_000
    assert peak_mib(function) < 300


# --- quotas ---------------------------------------------------------------------------------------


def assert_over_quota(reply: Reply) -> None:
    assert (reply.status, reply.code) == (429, "quota_exceeded"), reply.body
    assert int(reply.headers["Retry-After"]) >= 1


def test_an_owner_has_so_many_chats_and_no_more(start: Any, model: ModelServer) -> None:
    base = start(AUTH="keys", ADMIN_KEY=ADMIN_KEY, MAX_CHATS_PER_OWNER="3").client.base
    (_, user), (_, other) = new_user(base), new_user(base)
    model.enqueue(Answer(status=400, error="no"))
    assert user.say("failed", "x").status == 502, "and does not count"
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: user.say(f"c{n}", "x"), range(8)))
    kept = [n for n, reply in enumerate(replies) if reply.status == 200]
    assert len(kept) == 3
    for reply in replies:
        if reply.status != 200:
            assert_over_quota(reply)
    assert_over_quota(user.post("/conversation", None))
    assert_over_quota(user.post("/conversations/new", {"prompt": "x"}))
    assert user.say(f"c{kept[0]}", "goes on").status == 200 == other.say("c", "x").status
    assert user.request("DELETE", f"/c{kept[0]}").status == 204
    assert user.say("again", "x").status == 200
    assert_over_quota(user.say("and-again", "x"))


def test_chats_that_have_expired_do_not_count(start: Any) -> None:
    client = start(MAX_CHATS_PER_OWNER="2", CHAT_TTL_SECONDS="1").client
    assert [client.say(f"c{n}", "x").status for n in range(3)] == [200, 200, 429]
    assert wait_until(lambda: client.say("c4", "x").status == 200, 5)


def test_an_owner_stores_so_many_bytes_and_no_more(start: Any) -> None:
    base = start(AUTH="keys", ADMIN_KEY=ADMIN_KEY, MAX_STORED_BYTES_PER_OWNER="50000").client.base
    (_, user), (_, other) = new_user(base), new_user(base)
    statuses = [user.say(f"c{n % 2}", "x" * 9_000).status for n in range(8)]
    assert 4 <= statuses.count(200) <= 5 and statuses == sorted(statuses)
    assert_over_quota(user.say("c0", "x" * 9_000))
    assert_over_quota(user.say("c5", "x" * 9_000))
    assert other.say("c", "x" * 9_000).status == 200
    assert user.get("/c0/chat").status == 200, "what is there can be read"
    assert user.request("DELETE", "/c0").status == 204
    assert user.say("c1", "x" * 9_000).status == 200
    assert user.request("DELETE", "/me").status == 204


def test_messages_at_once_do_not_pass_the_quota_of_bytes(start: Any) -> None:
    client = start(MAX_STORED_BYTES_PER_OWNER="50000").client
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda n: client.say(f"c{n}", "x" * 9_000).status, range(10)))
    assert 4 <= statuses.count(200) <= 5 and set(statuses) == {200, 429}
