"""Who may dial in as an agent, and what becomes of a socket that brings garbage."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from dev.model import ModelServer
from tests.harness import ADMIN_KEY, Client, StartFunction, threads_of, wait_until
from tests.websocket import (
    AS_AGENT,
    PATH,
    Agents,
    Refused,
    SeedAgent,
    WebSocket,
    connections,
    is_alone,
)


@pytest.fixture(scope="module")
def a(start_function: StartFunction) -> Client:
    return start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY).client


@pytest.mark.parametrize(
    "headers, path, status",
    [
        ({}, PATH, 401),
        ({"Authorization": "Bearer nonsense"}, PATH, 401),
        ({}, f"{PATH}?key=nonsense", 401),
        ({"Origin": "https://evil.example"}, f"{PATH}?key={ADMIN_KEY}", 403),
        ({"Origin": "null", "Authorization": ADMIN_KEY}, PATH, 403),
    ],
)
def test_who_may_not_dial_in_is_told_why(
    a: Client, headers: dict[str, str], path: str, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        WebSocket(a.base, path, headers)
    assert refused.value.status == status
    assert json.loads(refused.value.body)["error"]
    assert connections(a) == []


def test_a_browser_brings_the_key_in_the_query(a: Client) -> None:
    origin = {"Origin": a.base}
    for name in ("key", "admin_key"):
        agent = SeedAgent(a.base, headers=origin, path=f"{PATH}?{name}={ADMIN_KEY}")
        assert wait_until(partial(is_alone, a, agent.id))
        agent.stop()
        assert wait_until(lambda: connections(a) == [])


def test_an_agent_key_of_its_own_and_none_at_all(start_function: Any, model: ModelServer) -> None:
    own = start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY, AGENT_KEY="agents-only").client
    with pytest.raises(Refused):
        WebSocket(own.base, headers=AS_AGENT)
    WebSocket(own.base, headers={"Authorization": "Bearer agents-only"}).drop()
    nobody = start_function(AUTH="jwt", FIREBASE_PROJECT="p").client
    with pytest.raises(Refused) as refused:
        WebSocket(nobody.base)
    assert refused.value.status == 403
    cloud = start_function(K_SERVICE="x", AUTH="open").client
    with pytest.raises(Refused):
        WebSocket(cloud.base)
    local = start_function().client
    WebSocket(local.base).drop()
    with pytest.raises(Refused):  # a page whose own name points to this machine
        WebSocket(local.base, headers={"Origin": "http://evil.example"}, host="evil.example")


def test_what_is_no_websocket_and_no_handshake_is_refused(a: Client) -> None:
    assert a.get(PATH, **AS_AGENT).status == 400
    for headers in ({"Upgrade": "websocket"}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
        assert a.get(PATH, **AS_AGENT, **headers).status == 400


def test_any_number_of_agents_dial_in_and_none_keeps_a_thread(
    start_function: Any, model: ModelServer
) -> None:
    function = start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY, THREADS="4")
    agents = Agents(function.client)
    try:
        ids = {agents.start(function.client).id for _ in range(40)}
        assert set(connections(function.client)) == ids
        for n in range(40):
            reply = function.client.post("/api/ask", {"content": f"{n}"})
            assert reply.json["content"] == f"You said: {n}"
        assert threads_of(function) < 20
    finally:
        agents.stop()
    assert wait_until(lambda: connections(function.client) == [])


def test_one_thread_is_too_few_for_agents(start_function: Any, model: ModelServer) -> None:
    client = start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY, THREADS="1").client
    with pytest.raises(Refused) as refused:
        WebSocket(client.base, headers=AS_AGENT)
    assert refused.value.status == 403 and b"THREADS" in refused.value.body
    assert client.get("/health").status == 200


def test_questions_wait_for_an_agent_that_is_too_busy_to_read(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(AUTH="open", ADMIN_KEY=ADMIN_KEY, MAX_PROMPT_TOKENS="1000000").client
    agent = WebSocket(client.base, headers=AS_AGENT)
    agent.send(agent.receive() or "")
    assert wait_until(lambda: connections(client))
    long = "x" * 900_000  # of eight, more than the sockets on the way can hold
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(client.say, f"{chat_id}-{n}", long, model="agent") for n in range(8)]
        time.sleep(1.5)
        for _ in range(8):
            asked = json.loads(agent.receive() or "{}")
            assert asked["message"] == "ChatGptRequest" and len(asked["data"]) > 900_000
            said = json.dumps({"content": "read it all"})
            agent.send(json.dumps({"id": asked["id"], "message": "ChatGptResponse", "data": said}))
        assert [r.result().json["content"] for r in replies] == ["read it all"] * 8
    agent.drop()


def test_garbage_and_too_much_close_the_socket_with_a_reason_and_disturb_nobody(
    a: Client, agents: Agents
) -> None:
    good = agents.start(a)
    garbage = ["", "x", "[]", '{"id": 5, "message": "pong"}', "{" * 100_000, "\ud7ff" * 10]
    for text in garbage:
        for meets in (False, True):
            socket = WebSocket(a.base, headers=AS_AGENT)
            offered = socket.receive()
            if meets:
                socket.send(offered or "")
            socket.send(text)
            assert socket.receive() is None and socket.closed
            assert socket.closed[0] == 1007 and socket.closed[1], (text, socket.closed)
    for size in (2_000_000, 100_000_000):
        socket = WebSocket(a.base, headers=AS_AGENT)
        socket.send(socket.receive() or "")
        try:
            socket.send_frame(b"x" * size)
        except OSError:
            pass
        while socket.receive() is not None:
            pass  # pings, from before
        assert socket.closed and socket.closed[0] == 1009, (size, socket.closed)
        reply = a.post("/api/ask", {"content": "still there?"})
        assert reply.json.get("content") == "You said: still there?", (
            size,
            reply.json,
        )
    assert connections(a) == [good.id] and good.ws.closed is None
