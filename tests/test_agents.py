"""Agents: programs that connect over a WebSocket and answer as a model would."""

import threading
import time
from functools import partial
from typing import Any

import pytest

from dev.model import ModelServer
from tests.harness import ADMIN_KEY, Client, Function, wait_until
from tests.websocket import Agents, SeedAgent, connections, is_alone

SETTINGS = {
    "AUTH": "open",
    "ADMIN_KEY": ADMIN_KEY,
    "AGENT_PING_SECONDS": "1",
    "UPSTREAM_TIMEOUT_SECONDS": "8",
    "KEEPALIVE_SECONDS": "0.5",
}


@pytest.fixture(scope="module")
def instances(start_function: Any) -> tuple[Function, Function]:
    return start_function(**SETTINGS), start_function(**SETTINGS)


@pytest.fixture
def a(instances: tuple[Function, Function], model: ModelServer) -> Client:
    return instances[0].client


@pytest.fixture
def b(instances: tuple[Function, Function], model: ModelServer) -> Client:
    return instances[1].client


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


def test_the_answer_of_an_agent_has_a_limit_in_bytes(
    start_function: Any, agents: Agents, chat_id: str
) -> None:
    client = start_function(**SETTINGS, MAX_ANSWER_BYTES="1000").client
    agents.start(client)
    for stream in (False, True):
        reply = client.say(chat_id, "é" * 1000, model="agent", stream=stream)
        message = reply.events[-1].data if stream else reply.json
        assert message["content"] == "You said: " + "é" * 495
        assert (message["finish_reason"], message["status"]) == ("length", "completed")


def test_an_ask_finds_an_agent_of_another_instance(
    a: Client, b: Client, agents: Agents, chat_id: str
) -> None:
    agent = agents.start(b)
    assert a.say(chat_id, "Hi", model="agent").json["content"] == "You said: Hi"
    assert ask(a, "x").json["content"] == "You said: x"
    events = a.say(chat_id, "y", model="agent", stream=True).events
    assert events[-1].data["content"] == "You said: y"
    assert len(agent.asked) == 3


def test_least_recently_used_first_and_a_conversation_stays_until_its_agent_is_gone(
    a: Client, b: Client, agents: Agents
) -> None:
    three = {agent.id: agent for agent in (agents.start(c) for c in (a, a, b))}
    chats = [ask(a, f"first of {n}").json["conversation_id"] for n in range(3)]
    assert [len(agent.asked) for agent in three.values()] == [1, 1, 1]
    for chat in chats * 2:
        ask(b, "more", conversation_id=chat)
    assert [len(agent.asked) for agent in three.values()] == [3, 3, 3]
    for agent in three.values():
        assert len({data["conversation_id"] for data in agent.asked}) == 1
    gone = next(iter(three.values()))
    ours = next(c for c in chats if a.get(f"/{c}/chat").json[-1] and _said_to(a, c, gone))
    gone.stop()
    assert wait_until(lambda: gone.id not in connections(a))
    assert ask(a, "and now?", conversation_id=ours).json["content"] == "You said: and now?"
    taken = next(agent for agent in three.values() if agent.asked[-1]["content"] == "and now?")
    assert len(taken.asked[-1]["messages"]) == 7


def _said_to(client: Client, chat: str, agent: SeedAgent) -> bool:
    first = client.get(f"/{chat}/chat").json[0]
    return any(data["message_id"] == first["id"] for data in agent.asked)


def test_an_agent_that_comes_back_with_its_id_takes_the_place_of_its_old_socket(
    a: Client, b: Client, agents: Agents
) -> None:
    old = agents.start(a)
    for client in (a, b):
        new = agents.start(client, agent_id=old.id)
        old.thread.join(5)
        assert old.ws.closed == (1008, "It has connected again.")
        assert wait_until(partial(is_alone, a, new.id))
        assert ask(a, "x").json["content"] == "You said: x" and len(new.asked) == 1
        old = new


def test_without_an_agent_the_model_api_answers_and_without_both_nobody(
    a: Client, start_function: Any, chat_id: str
) -> None:
    reply = ask(a, "x")
    assert reply.json["content"].startswith("You sent 1 message.")
    refused = a.say(chat_id, "x", model="agent")
    assert (refused.status, refused.code) == (503, "no_agent")
    assert refused.headers["Retry-After"] == "1"
    assert a.get(f"/{chat_id}/chat").json == []
    alone = start_function(
        GPT_API_KEY="", OPENAI_BASE_URL="", GPT_MODEL="agent", ADMIN_KEY=ADMIN_KEY, AUTH="open"
    ).client
    reply = ask(alone, "x")
    assert (reply.status, reply.json) == (503, {"error": "No available clients"})
    assert alone.say(chat_id, "x", model="gpt-5").status == 403


def test_an_error_of_an_agent_is_told(a: Client, agents: Agents, chat_id: str) -> None:
    def fail(data: dict[str, Any]) -> str:
        raise RuntimeError("out of memory; my key is sk-abcdefgh")

    agents.start(a, fail)
    reply = a.say(chat_id, "x", model="agent")
    assert (reply.status, reply.code) == (502, "upstream_refused")
    assert reply.json["error"]["message"] == "The agent failed: out of memory; my key is ***"
    assert a.get(f"/{chat_id}/chat").json == []


def test_a_silent_agent_is_pinged_and_a_dead_one_dropped(
    a: Client, b: Client, agents: Agents
) -> None:
    quiet = agents.start(a)
    assert wait_until(lambda: quiet.pings >= 2, 5)
    assert connections(b) == [quiet.id]
    quiet.silent = True
    assert wait_until(lambda: connections(b) == [])
    assert wait_until(lambda: quiet.ws.closed == (1008, "No pong arrived in time."))


def test_a_lost_agent_is_replaced_once(a: Client, b: Client, agents: Agents, chat_id: str) -> None:
    lost: list[SeedAgent] = []

    def vanish(data: dict[str, Any]) -> str:
        lost[-1].ws.drop()
        time.sleep(60)
        return ""

    for client in (a, b):
        good = agents.start(b)
        ask(a, "so that it is not the next")
        lost.append(agents.start(client, vanish))
        reply = a.say(chat_id, "x", model="agent")
        assert reply.json["content"] == "You said: x", reply.body
        assert len(lost[-1].asked) == 1
        good.stop()
        assert wait_until(lambda: connections(a) == [])


def test_when_the_second_agent_is_lost_too_the_turn_ends(
    a: Client, b: Client, agents: Agents, chat_id: str
) -> None:
    both: list[SeedAgent] = []

    def vanish(data: dict[str, Any]) -> str:
        for agent in both:
            if data in agent.asked:
                agent.ws.drop()
        time.sleep(60)
        return ""

    both += [agents.start(a, vanish), agents.start(b, vanish)]
    reply = a.say(chat_id, "x", model="agent")
    assert (reply.status, reply.code) == (503, "upstream_unavailable"), reply.body
    again = a.say(chat_id, "x", model="agent")
    assert (again.status, again.code) == (503, "no_agent")
    assert a.get(f"/{chat_id}/chat").json == []


def test_an_agent_that_says_nothing_more_times_out(a: Client, agents: Agents, chat_id: str) -> None:
    def say_nothing(data: dict[str, Any]) -> str:
        time.sleep(60)
        return ""

    agents.start(a, say_nothing)
    reply = a.say(chat_id, "x", model="agent")
    assert (reply.status, reply.code) == (504, "upstream_timeout")


def in_parallel(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "somebody hangs"


def test_gpt_model_agent_needs_no_model_api(start_function: Any, chat_id: str) -> None:
    client = start_function(GPT_API_KEY="", OPENAI_BASE_URL="", GPT_MODEL="agent").client
    agent = SeedAgent(client.base)
    assert wait_until(lambda: client.say(chat_id, "Hi").status == 200)
    assert client.get(f"/{chat_id}/chat").json[-1]["content"] == "You said: Hi"
    agent.stop()


def test_an_agents_turn_can_be_stopped_and_followed_elsewhere(
    a: Client, b: Client, agents: Agents, chat_id: str
) -> None:
    said, more = threading.Event(), threading.Event()

    def answer(data: dict[str, Any]) -> str:
        said.set()
        more.wait(20)
        return "too late"

    agent = agents.start(b, answer)
    stream = a.stream(f"/{chat_id}/chat", {"content": "x", "model": "agent", "stream": True})
    assert said.wait(10)
    followed = b.stream(f"/{chat_id}/chat/stream", method="GET")
    assert b.post(f"/{chat_id}/chat/stop", None).json["status"] == "cancelled"
    assert stream.rest()[-1].name == followed.rest()[-1].name == "cancelled"
    more.set()
    assert wait_until(lambda: agent.answered == 1)
    assert [m["content"] for m in a.get(f"/{chat_id}/chat").json] == ["x", ""]
    assert ask(a, "and on").status == 200
