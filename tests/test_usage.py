"""What turns used: booked whatever became of them, by owner, day and model, with its price."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, as_admin, new_user, wait_until
from tests.test_limits import usage_of


@pytest.fixture
def start(start_function: Any, model: ModelServer) -> Any:
    """Start an instance with users and these settings; its base URL."""

    def start(**settings: str) -> str:
        base: str = start_function(AUTH="keys", ADMIN_KEY=ADMIN_KEY, **settings).client.base
        return base

    return start


LONG = Answer(pieces=["word "] * 40, pause=0.02)
CUT = Answer(pieces=["word "] * 40, cut=True)


@pytest.mark.parametrize(
    "how", ["stop", "delete", "rollback", "interrupt", "cut", "unstreamed cut"]
)
def test_what_is_stopped_or_cut_is_accounted_for(
    start: Any, model: ModelServer, chat_id: str, how: str
) -> None:
    _, user = new_user(start(DAILY_TOKEN_BUDGET="100000"))
    model.enqueue(CUT if "cut" in how else LONG)
    body = {"content": "word " * 100, "stream": how != "unstreamed cut"}
    stream = user.stream(f"/{chat_id}/chat", body)
    if "cut" not in how:
        for _ in range(30):
            stream.next()
    if how == "stop":
        user.post(f"/{chat_id}/chat/stop", None)
    elif how == "delete":
        user.request("DELETE", f"/{chat_id}")
    elif how in ("rollback", "interrupt"):
        user.say(chat_id, "x", when_busy=how)
    stream.response.read()
    assert wait_until(lambda: usage_of(user)["requests"] >= 1)
    used = usage_of(user)
    assert used["prompt_tokens"] >= 100 and used["completion_tokens"] >= 25, used
    assert used["requests"] == (2 if how in ("rollback", "interrupt") else 1)


def test_a_turn_that_the_model_refused_costs_nothing(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    _, user = new_user(start(DAILY_TOKEN_BUDGET="100000"))
    model.enqueue(Answer(status=400, error="no"))
    assert user.say(chat_id, "x").status == 502
    assert usage_of(user)["requests"] == 0


def test_who_deletes_themselves_and_comes_back_finds_the_limits_where_they_were(
    start_function: Any, model: ModelServer, own_redis: RedisServer, chat_id: str
) -> None:
    client = start_function(RATE_LIMIT="2/hour", REDIS_URL=own_redis.url, REDIS_CLUSTER="no").client
    assert [client.say(chat_id, "x").status for _ in range(3)] == [200, 200, 429]
    assert client.request("DELETE", "/me").status == 204
    assert client.get("/chats").json["data"] == []
    assert client.say(chat_id, "x").status == 429


def test_usage_by_owner_day_and_model_with_its_price(
    start: Any, model: ModelServer, chat_id: str
) -> None:
    base = start(PRICES="gpt-small=1/10, gpt-=2/20")
    user_id, user = new_user(base)
    used = [
        user.say(chat_id, "x", model=name).json["usage"]
        for name in ("gpt-small-2026-01-01", "gpt-small-2026-01-01", "gpt-x y", "free")
    ]
    today = datetime.now(UTC).date().isoformat()
    rows = as_admin(base).get(f"/admin/usage?from={today}&to={today}").json["usage"]
    mine = {row["model"]: row for row in rows if row["owner"] == user_id}
    small = mine["gpt-small-2026-01-01"]
    prompt, completion = (
        sum(u[name] for u in used[:2]) for name in ("prompt_tokens", "completion_tokens")
    )
    assert small == {
        "owner": user_id,
        "day": today,
        "model": "gpt-small-2026-01-01",
        "requests": 2,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": round((prompt + 10 * completion) / 1e6, 6),
    }
    assert mine["gpt-x y"]["cost"] > 0 and mine["free"]["cost"] is None
    text = as_admin(base).get(f"/admin/usage?from={today}&format=csv")
    assert text.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(text.body.decode())))
    assert [row["requests"] for row in lines if row["owner"] == user_id] == ["2", "1", "1"]
    assert as_admin(base).get("/admin/usage?to=2000-01-01").json == {"usage": []}
    assert as_admin(base).get("/admin/usage?from=yesterday").status == 400
    me = user.get("/me").json
    assert me["owner"] == user_id and me["usage"]["day"] == me["usage"]["month"]
    assert (me["usage"]["day"]["requests"], me["limits"]["rate_limit"]) == (4, "none")


def test_the_list_of_usage_does_not_grow_with_every_turn(
    start: Any, redis_server: RedisServer, chat_id: str
) -> None:
    user_id, user = new_user(start())
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda n: user.say(f"{chat_id}-{n % 16}", "x").status, range(140)))
    assert said == [200] * 140
    assert redis_server.client().llen(f"ck:{{{user_id}}}:usage") < 20
    assert usage_of(user)["requests"] == 140
