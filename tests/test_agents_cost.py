"""Many questions to agents: each answered once, at what cost in Redis, and encrypted on the way."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.commands import monitored
from dev.model import ModelServer
from dev.redis_server import RedisServer
from tests.harness import ADMIN_KEY, ENCRYPTION_KEYS, Function, wait_until
from tests.test_agents import ask, in_parallel
from tests.websocket import Agents, SeedAgent


def test_two_hundred_questions_are_each_answered_once_and_spread_evenly(
    start_function: Any, model: ModelServer, request: pytest.FixtureRequest
) -> None:
    # With the usual pings: where each is a second, a slow machine takes the living for dead.
    a, b = (start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY).client for _ in range(2))
    agents = Agents(a)
    request.addfinalizer(agents.stop)
    three = [agents.start(client) for client in (a, b, b)]
    replies: list[Any] = []

    def client(number: int) -> None:
        for n in range(number, 200, 16):
            reply = ask((a, b)[n % 2], f"question {n}")
            replies.append((n, reply.status, reply.json.get("content")))

    in_parallel(16, client)
    assert sorted(replies) == [(n, 200, f"You said: question {n}") for n in range(200)]
    asked = Counter(data["content"] for agent in three for data in agent.asked)
    assert [question for question, times in asked.items() if times > 1] == []
    assert sorted(len(agent.asked) for agent in three) == [66, 67, 67]


@pytest.mark.parametrize("dialled, commands, billed", [("a", 1, 3), ("b", 4, 8)])
def test_a_question_costs_at_most_four_commands(
    dialled: str, commands: int, billed: int, tmp_path: Path
) -> None:
    """Besides the turn's own; as Upstash bills them, with those inside the script, seven."""
    redis = RedisServer(tmp_path).start()
    settings = {"REDIS_URL": redis.url, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    functions = {name: Function(settings, tmp_path / name).start() for name in "ab"}
    agent = SeedAgent(functions[dialled].client.base)
    try:
        client = functions["a"].client
        for _ in range(3):  # everybody has heard of everybody, and the scripts are known
            assert wait_until(lambda: client.say("chat", "x", model="agent").status == 200)
        with monitored(redis) as seen:
            assert client.say("chat", "x", model="agent").status == 200
            time.sleep(0.3)
        mine = [c for c in seen if "{agents}" in c["command"]]
        sent = [c["command"].split()[0] for c in mine if c["client_type"] != "lua"]
        assert len(sent) <= commands, sent
        assert len(mine) <= billed, [c["command"] for c in mine]
    finally:
        agent.stop()
        for function in functions.values():
            function.kill()
        redis.stop()


def test_what_is_said_crosses_redis_encrypted(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path).start()
    settings = {"REDIS_URL": redis.url, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    settings["ENCRYPTION_KEY"] = ENCRYPTION_KEYS[0]
    functions = [Function(settings, tmp_path / f"{n}.log").start() for n in range(2)]
    agent = SeedAgent(functions[1].client.base)
    try:
        with monitored(redis) as seen:
            client = functions[0].client
            assert wait_until(lambda: client.say("chat", "word", model="agent").status == 200)
        crossed = [c["command"] for c in seen if "ck:inbox" in c["command"]]
        assert any("XADD" in command for command in crossed)
        assert not [command for command in crossed if "You said" in command or '"word' in command]
    finally:
        agent.stop()
        for function in functions:
            function.kill()
        redis.stop()
