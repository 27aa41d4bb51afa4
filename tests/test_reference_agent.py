"""`python -m chat.models.agents` as a person starts it, between a function and a model."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.models.agents.__main__ import register_url
from dev.model import Answer, ModelServer
from tests.harness import ADMIN_KEY, ROOT, Client, clean_environment, wait_until
from tests.test_agents import SETTINGS
from tests.websocket import connections


class Process:
    """The agent's process; its lines are in `log`."""

    def __init__(self, log: Path, *options: str, key: str = ADMIN_KEY) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chat.models.agents", *options],
                cwd=ROOT,
                env=clean_environment() | {"AGENT_KEY": key},
                stdout=out,
                stderr=out,
            )

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(10)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture(scope="module")
def home_model() -> Iterator[ModelServer]:
    """The model that only the agent can reach."""
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def clients(start_function: Any) -> list[Client]:
    return [start_function(**SETTINGS).client for _ in range(2)]


@pytest.fixture
def agent(clients: list[Client], home_model: ModelServer, tmp_path: Path) -> Iterator[Process]:
    home_model.reset()
    process = Process(
        tmp_path / "agent.log",
        *("--server", clients[0].base, "--upstream", home_model.url, "--model", "local"),
    )
    assert wait_until(lambda: connections(clients[1])), process.log.read_text()
    yield process
    process.end()
    assert wait_until(lambda: not connections(clients[1]))


def test_it_streams_a_models_answer_to_clients_of_any_instance(
    agent: Process, clients: list[Client], home_model: ModelServer, chat_id: str
) -> None:
    for number, client in enumerate(clients):
        gate = threading.Event()
        home_model.enqueue(Answer(pieces=["One ", "two ", "three."], pause=0.05, gate=gate))
        stream = client.stream(
            f"/{chat_id}/chat", {"content": "Count", "model": "agent", "stream": True}
        )
        stream.until("delta")
        gate.set()  # the last piece comes when the first one has arrived
        assert stream.rest()[-1].data["content"] == "One two three."
        assert len(home_model.requests[-1].body["messages"]) == 1 + 2 * number
    asked = home_model.requests[-1].body
    assert asked["model"] == "local" and asked["stream"] is True
    assert wait_until(lambda: agent.log.read_text().count(": 14 characters in ") == 2)
    assert "Count" not in agent.log.read_text()


def test_it_answers_several_questions_at_once(
    agent: Process, clients: list[Client], home_model: ModelServer, chat_id: str
) -> None:
    gate = threading.Event()
    home_model.enqueue(Answer(pieces=["slow"], gate=gate), Answer(pieces=["fast"]))
    slow: list[Any] = []

    def say() -> None:
        slow.append(clients[0].say(f"{chat_id}-slow", "x", model="agent").json["content"])

    thread = threading.Thread(target=say)
    thread.start()
    assert wait_until(lambda: home_model.requests)
    assert clients[1].say(chat_id, "x", model="agent").json["content"] == "fast"
    gate.set()
    thread.join(10)
    assert slow == ["slow"]


def test_it_tells_what_its_model_says_no_to(
    agent: Process, clients: list[Client], home_model: ModelServer, chat_id: str
) -> None:
    home_model.enqueue(Answer(status=404, error="there is no model of that name"))
    reply = clients[0].say(chat_id, "x", model="agent")
    assert reply.status == 502 and "there is no model of that name" in reply.body.decode()
    home_model.enqueue(Answer(pieces=["half ", "an"], cut=True))
    events = clients[0].say(chat_id, "x", model="agent", stream=True).events
    assert events[-1].name == "failed"
    assert clients[0].get(f"/{chat_id}/chat").json[-1]["content"] == "half an"


def test_it_comes_back_with_its_id_when_the_connection_drops(
    agent: Process,
    start_function: Any,
    clients: list[Client],
    home_model: ModelServer,
    chat_id: str,
    tmp_path: Path,
) -> None:
    agent.end()
    assert wait_until(lambda: not connections(clients[1]))
    function = start_function(**SETTINGS)
    second = Process(
        tmp_path / "second.log",
        *("--server", function.client.base, "--upstream", home_model.url, "--model", "local"),
    )
    try:
        assert wait_until(lambda: connections(clients[1]))
        before = connections(clients[1])
        assert clients[0].say(chat_id, "x", model="agent").status == 200
        function.kill()
        function.start()
        assert wait_until(lambda: second.log.read_text().count("connected as ") == 2, 20)
        assert wait_until(lambda: connections(clients[1]) == before)
        events = clients[0].say(chat_id, "y", model="agent", stream=True).events
        assert "You sent 3 messages" in events[-1].data["content"]
        second.send(signal.SIGINT)
        assert second.wait() == 0
        assert "Traceback" not in second.log.read_text(), second.log.read_text()
    finally:
        second.end()


def test_ctrl_c_in_the_middle_of_an_answer_ends_it_at_once(
    agent: Process, clients: list[Client], home_model: ModelServer, chat_id: str
) -> None:
    gate = threading.Event()
    home_model.enqueue(Answer(pieces=["never ", "said"], gate=gate))
    stream = clients[1].stream(
        f"/{chat_id}/chat", {"content": "x", "model": "agent", "stream": True}
    )
    stream.until("delta")
    agent.send(signal.SIGINT)
    assert agent.wait() == 0
    gate.set()
    assert stream.rest()[-1].name == "failed"
    assert "Traceback" not in agent.log.read_text(), agent.log.read_text()


def test_a_wrong_key_ends_it_with_a_reason(clients: list[Client], tmp_path: Path) -> None:
    process = Process(
        tmp_path / "log",
        *("--server", clients[0].base, "--upstream", "http://localhost:1/v1", "--model", "m"),
        key="wrong",
    )
    assert process.wait() == 1
    assert "refuses this agent: 401" in process.log.read_text()


@pytest.mark.parametrize(
    "server, url",
    [
        ("wss://host", "wss://host/client/register"),
        ("https://host/", "wss://host/client/register"),
        ("http://localhost:8080", "ws://localhost:8080/client/register"),
        ("host", "wss://host/client/register"),
        ("ws://host/under/client/register", "ws://host/under/client/register"),
    ],
)
def test_a_server_may_be_named_as_people_do(server: str, url: str) -> None:
    assert register_url(server) == url
