"""Agents: machines that dial in over a WebSocket and answer as a model would."""

from collections.abc import Iterator
from typing import Any

import pytest

from dev.model import ModelServer
from tests.harness import ADMIN_KEY, Client, Function, as_admin, wait_until
from tests.websocket import SeedAgent

SETTINGS = {
    "ADMIN_KEY": ADMIN_KEY,
    "AGENT_PING_SECONDS": "1",
    "UPSTREAM_TIMEOUT_SECONDS": "8",
    "KEEPALIVE_SECONDS": "0.5",
}
AS_AGENT = {"Authorization": ADMIN_KEY}


@pytest.fixture(scope="module")
def instances(start_function: Any) -> tuple[Function, Function]:
    return start_function(**SETTINGS), start_function(**SETTINGS)


@pytest.fixture
def a(instances: tuple[Function, Function], model: ModelServer) -> Client:
    return instances[0].client


@pytest.fixture
def b(instances: tuple[Function, Function], model: ModelServer) -> Client:
    return instances[1].client


@pytest.fixture
def agents(a: Client, b: Client) -> Iterator["Agents"]:
    started = Agents(a)
    yield started
    started.stop()
    assert wait_until(lambda: not connections(a)), connections(a)


class Agents:
    """Starts agents, and waits until they are in the pool."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._all: list[SeedAgent] = []

    def start(self, client: Client, answer: Any = None, **options: Any) -> SeedAgent:
        agent = SeedAgent(client.base, answer, headers=AS_AGENT, **options)
        self._all.append(agent)
        assert wait_until(lambda: agent.id in connections(self._client))
        return agent

    def stop(self) -> None:
        for agent in self._all:
            agent.stop()


def connections(client: Client) -> list[str]:
    reply = as_admin(client.base).get("/api/connections")
    assert reply.status == 200, reply.body
    return [connection["Id"] for connection in reply.json["connections"]]


def ask(client: Client, content: str, **fields: Any) -> Any:
    return client.post("/api/ask", {"content": content, **fields})


def test_an_agent_that_knows_the_old_protocol_alone_serves_a_conversation(
    a: Client, agents: Agents, model: ModelServer
) -> None:
    agent = agents.start(a)
    first = ask(a, "Hello").json
    assert (first["content"], first["error"]) == ("You said: Hello", "")
    chat = first["conversation_id"]
    for number in range(3):
        reply = ask(a, f"More {number}", conversation_id=chat)
        assert reply.json["content"] == f"You said: More {number}"
    assert [m["content"] for m in a.get(f"/{chat}/chat").json][-2:] == [
        "More 2",
        "You said: More 2",
    ]
    assert a.get(f"/{chat}/chat").json[-1]["model"] == "agent"
    asked = agent.asked[-1]
    assert asked["content"] == "More 2" and len(asked["messages"]) == 7
    assert len({data["conversation_id"] for data in agent.asked}) == 1
    assert model.requests == []


def test_model_agent_is_a_model_like_any_other(a: Client, agents: Agents, chat_id: str) -> None:
    agents.start(a)
    reply = a.say(chat_id, "Hi", model="agent").json
    assert (reply["content"], reply["model"], reply["status"]) == (
        "You said: Hi",
        "agent",
        "completed",
    )
    events = a.say(chat_id, "Again", model="agent", stream=True).events
    assert events[0].name == "started" and events[-1].name == "completed"
    assert "".join(e.data["text"] for e in events if e.name == "delta") == "You said: Again"
    assert a.get(f"/{chat_id}").json["message_count"] == 4
