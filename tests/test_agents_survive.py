"""Agents and instances are killed at random: every question ends, and none is answered twice."""

import random
import threading
import time
from collections import Counter
from typing import Any

import urllib3

from dev.model import ModelServer
from tests.harness import Function
from tests.test_agents import AS_AGENT, SETTINGS, in_parallel
from tests.websocket import Refused, SeedAgent

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
            try:
                reply = random.choice(functions).client.request(
                    "POST",
                    f"/killed-{number}-{n}/chat",
                    {"content": question, "model": "agent"},
                    timeout=DEADLINE_SECONDS,
                )
            except urllib3.exceptions.TimeoutError as hanging:
                if "Read timed out" in str(hanging):
                    raise
                outcomes.append((question, 0, "its instance was killed"))
            except (urllib3.exceptions.HTTPError, OSError):
                outcomes.append((question, 0, "its instance was killed"))
                time.sleep(0.2)
            else:
                said = reply.json["content"] if reply.status == 200 else reply.code
                outcomes.append((question, reply.status, said))
                if reply.status != 200:
                    time.sleep(0.1)
            slowest[0] = max(slowest[0], time.monotonic() - began)

    fleet.start()
    try:
        in_parallel(CLIENTS, client)
    finally:
        fleet.stop()
    for question, status, said in outcomes:
        right = said == f"You said: {question}" if status == 200 else True
        assert right and (status in (0, 200) or (status, said) in DOCUMENTED), (status, said)
    assert len(outcomes) == CLIENTS * QUESTIONS
    told = Counter(said if status != 200 else "answered" for _, status, said in outcomes)
    print(f"\n{dict(told)}; killed: {dict(fleet.kills)}; slowest {slowest[0]:.1f} s;", end=" ")
    print(f"worked on twice: {sum(n > 1 for n in fleet.answers.values())}")
    assert told["answered"] > CLIENTS * QUESTIONS / 2
    histories = [
        len(functions[0].client.get(f"/killed-{number}-{n}/chat").json)
        for number in range(CLIENTS)
        for n in range(QUESTIONS)
    ]
    assert set(histories) <= {0, 2}
