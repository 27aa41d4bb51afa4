"""Agents and instances are killed at random: every question ends, and none is answered twice."""

import os
import random
import signal
import threading
import time
from collections import Counter
from typing import Any

import urllib3

from dev.model import ModelServer
from tests.harness import Function, wait_until
from tests.test_agents import SETTINGS, in_parallel
from tests.websocket import AS_AGENT, Refused, SeedAgent, connections

CLIENTS = 16
QUESTIONS = 25  # of each client
DEADLINE_SECONDS = 25.0  # UPSTREAM_TIMEOUT_SECONDS twice, and the wait for a lease
DOCUMENTED = {
    (502, "upstream_refused"),
    (503, "upstream_unavailable"),
    (503, "store_unavailable"),
    (503, "no_agent"),
    (504, "upstream_timeout"),
}


class Fleet:
    """Agents that are started again when they, or the instances they dialled, are gone."""

    def __init__(self, functions: list[Function], count: int) -> None:
        self.agents: list[SeedAgent | None] = [None] * count
        self.answers: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self._functions = functions
        self._over = threading.Event()
        self._rounds = [
            threading.Thread(target=self._keep, args=(n,), daemon=True) for n in range(count)
        ] + [threading.Thread(target=self._break, daemon=True)]

    def start(self) -> None:
        for thread in self._rounds:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._rounds:
            thread.join(30)

    def _answer(self, data: dict[str, Any]) -> str:
        time.sleep(random.uniform(0.0, 0.4))
        self.answers[data["content"]] += 1
        return f"You said: {data['content']}"

    def _keep(self, number: int) -> None:
        """Keep one agent connected, to any instance, under one name."""
        while not self._over.is_set():
            try:
                base = random.choice(self._functions).client.base
                agent = SeedAgent(base, self._answer, agent_id=f"agent-{number}", headers=AS_AGENT)
            except (OSError, Refused, AssertionError, ValueError):
                time.sleep(0.2)
                continue
            self.agents[number] = agent
            while agent.thread.is_alive() and not self._over.wait(0.05):
                pass
            agent.stop()

    def _break(self) -> None:
        while not self._over.wait(random.uniform(0.3, 1.0)):
            agent = random.choice(self.agents)
            if random.random() < 0.75 and agent:
                agent.silent = random.random() < 0.3  # dead, but its socket is open
                if not agent.silent:
                    agent.stop()
                self.kills["agents"] += 1
            else:
                function = random.choice(self._functions)
                function.kill()
                self._over.wait(random.uniform(0.0, 1.0))
                function.start()
                self.kills["instances"] += 1


def _ask(functions: list[Function], chat: str, question: str) -> tuple[int, str]:
    """As an app does it: an answer that is lost on the way is asked for again, by the same key."""
    while True:
        began = time.monotonic()
        try:
            reply = random.choice(functions).client.request(
                "POST",
                f"/{chat}/chat",
                {"content": question, "model": "agent"},
                timeout=DEADLINE_SECONDS,
                Idempotency_Key=question,
            )
        except (urllib3.exceptions.HTTPError, OSError):
            assert time.monotonic() - began < DEADLINE_SECONDS, "it hangs"
            time.sleep(0.1)
            continue
        if reply.status == 200:
            cut = reply.json["status"] == "incomplete"  # its instance was killed
            return (200, "interrupted") if cut else (200, reply.json["content"])
        time.sleep(0.1)
        return reply.status, reply.code


def test_when_agents_and_instances_are_killed_every_question_ends_in_time(
    start_function: Any, model: ModelServer
) -> None:
    functions = [start_function(**SETTINGS) for _ in range(2)]
    fleet = Fleet(functions, 3)
    outcomes: list[tuple[str, int, str]] = []
    slowest = [0.0]

    def client(number: int) -> None:
        for n in range(QUESTIONS):
            question = f"question {number}-{n}"
            began = time.monotonic()
            outcomes.append((question, *_ask(functions, f"killed-{number}-{n}", question)))
            slowest[0] = max(slowest[0], time.monotonic() - began)

    fleet.start()
    try:
        in_parallel(CLIENTS, client)
    finally:
        fleet.stop()
    for question, status, said in outcomes:
        right = (
            said in (f"You said: {question}", "interrupted")
            if status == 200
            else (status, said) in DOCUMENTED
        )
        assert right, (status, said)
    assert len(outcomes) == CLIENTS * QUESTIONS
    told = Counter("answered" if said.startswith("You") else said for _, _, said in outcomes)
    print(f"\n{dict(told)}; killed: {dict(fleet.kills)}; slowest {slowest[0]:.1f} s;", end=" ")
    print(f"worked on twice: {sum(n > 1 for n in fleet.answers.values())}")
    assert told["answered"] > CLIENTS * QUESTIONS / 2
    for question, status, said in outcomes:
        chat = f"/{question.replace('question ', 'killed-')}/chat"
        history = [m["content"] for m in functions[0].client.get(chat).json]
        kept = [question, "" if said == "interrupted" else f"You said: {question}"]
        assert history == kept if status == 200 else history == [], (said, history)


def test_a_frozen_instance_loses_its_agents_and_gets_them_back(
    start_function: Any, model: ModelServer
) -> None:
    here, frozen = start_function(**SETTINGS), start_function(**SETTINGS)
    agents = [SeedAgent(f.client.base, headers=AS_AGENT) for f in (here, frozen)]
    try:
        # By id: agents of an instance that a test before this one killed may be listed for a while.
        both = {agent.id for agent in agents}
        assert wait_until(lambda: set(connections(here.client)) == both)
        assert here.client.say("warm", "x", model="agent").status == 200
        assert here.client.say("warm-too", "x", model="agent").status == 200
        os.killpg(frozen.pid, signal.SIGSTOP)
        began = time.monotonic()
        for number in range(4):
            reply = here.client.say(f"frozen-{number}", "Hi", model="agent")
            assert reply.json["content"] == "You said: Hi", reply.body
        assert time.monotonic() - began < 8.0, "only the first had to wait for a dead inbox"
        assert connections(here.client) == [agents[0].id]
        os.killpg(frozen.pid, signal.SIGCONT)
        assert wait_until(lambda: set(connections(here.client)) == both)
        for number in range(2):
            assert here.client.say(f"thawed-{number}", "Again", model="agent").status == 200
        # What had reached its instance before the frost may be asked, for nobody, at any moment.
        assert [question["content"] for question in agents[1].asked].count("Again") == 1
    finally:
        os.killpg(frozen.pid, signal.SIGCONT)
        for agent in agents:
            agent.stop()


def test_an_agent_that_dials_in_elsewhere_is_asked_again_what_its_dead_instance_took_along(
    start_function: Any, model: ModelServer
) -> None:
    here, dying = start_function(**SETTINGS), start_function(**SETTINGS)
    asked, gate = threading.Event(), threading.Event()

    def hold(data: dict[str, Any]) -> str:
        asked.set()
        gate.wait(20)
        return "too late"

    first = SeedAgent(dying.client.base, hold, agent_id="the-only-one", headers=AS_AGENT)
    again: list[SeedAgent] = []
    try:
        assert wait_until(lambda: connections(here.client) == ["the-only-one"])
        replies: list[Any] = []

        def say() -> None:
            replies.append(here.client.say("taken-along", "Hi", model="agent"))

        thread = threading.Thread(target=say)
        thread.start()
        assert asked.wait(10)
        dying.kill()
        again.append(SeedAgent(here.client.base, agent_id="the-only-one", headers=AS_AGENT))
        thread.join(15)
        assert [reply.json["content"] for reply in replies] == ["You said: Hi"]
    finally:
        gate.set()
        for agent in [first, *again]:
            agent.stop()


def test_an_instance_that_is_told_to_end_sends_its_agents_away_when_they_have_answered(
    start_function: Any, model: ModelServer
) -> None:
    here, ending = start_function(**SETTINGS), start_function(**SETTINGS)
    release = threading.Event()

    def answer(data: dict[str, Any]) -> str:
        release.wait(5)
        return "at last"

    agent = SeedAgent(ending.client.base, answer, headers=AS_AGENT)
    assert wait_until(lambda: connections(here.client))
    replies: list[Any] = []
    asker = threading.Thread(
        target=lambda: replies.append(here.client.say("ending", "x", model="agent"))
    )
    asker.start()
    assert wait_until(lambda: agent.asked)
    os.killpg(ending.pid, signal.SIGTERM)
    assert wait_until(lambda: not connections(here.client), 3)
    release.set()
    asker.join(10)
    assert replies[0].json["content"] == "at last"
    assert wait_until(lambda: agent.ws.closed is not None)
    assert agent.ws.closed and agent.ws.closed[0] == 1001
    agent.stop()


def test_when_redis_has_forgotten_everything_the_agents_are_back_with_the_next_beat(
    start_function: Any, model: ModelServer, redis_server: Any
) -> None:
    here, there = start_function(**SETTINGS), start_function(**SETTINGS)
    agent = SeedAgent(there.client.base, headers=AS_AGENT)
    assert wait_until(lambda: connections(here.client))
    assert here.client.say("forgotten", "x", model="agent").status == 200
    redis = redis_server.client()
    for key in list(redis.scan_iter("ck:*{agents}*")):
        redis.delete(key)
    try:
        assert connections(here.client) == []
        assert wait_until(lambda: connections(here.client) == [agent.id], 5)
        for client in (here.client, there.client):
            said = lambda c=client: c.say("forgotten", "y", model="agent").status == 200  # noqa: E731
            assert wait_until(said, 5)
    finally:
        agent.stop()
