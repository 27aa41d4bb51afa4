"""A real Redis, a real HTTP server in the model's place, and the function in a process of its own."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chat.web.auth.idtokens import IdTokens
from chat.web.auth.jwks import KeySet
from dev.model import ModelServer
from dev.redis_server import RedisCluster, RedisServer, find_binary
from tests.harness import UPSTREAM_KEY, Client, Function, StartFunction, wait_until
from tests.quick import forbid_processes, is_quick
from tests.traces import dump, find_secret
from tests.websocket import Agents, connections

if TYPE_CHECKING:
    from tests.deploying import Deployer
    from tests.signing import JwksServer

_numbers = itertools.count(1)
# A shell that starts us in the background has us, and all whom we start, not hear of Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="run on a Redis Cluster of 3 masters")
    parser.addoption("--server", default="", help="path of the Redis or Valkey server to run on")
    parser.addoption("--quick", action="store_true", help="only what needs no Redis, no process")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        items[:] = [item for item in items if is_quick(item)]
        forbid_processes()


@pytest.fixture(scope="session")
def redis_server(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[RedisServer | RedisCluster]:
    try:
        binary = pytestconfig.getoption("server") or find_binary()
    except RuntimeError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("redis")
    server: RedisServer | RedisCluster
    if pytestconfig.getoption("cluster"):
        server = RedisCluster(folder, binary).start()
    else:
        server = RedisServer(folder, binary=binary).start()
    yield server
    try:
        assert find_secret(dump(server)) is None, "Redis holds a secret"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture
def model(model_server: ModelServer) -> ModelServer:
    model_server.reset()
    return model_server


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the functions' logs go; none of them may ever hold a secret, whatever a test did."""
    folder = tmp_path_factory.mktemp("logs")
    yield folder
    for log in folder.iterdir():
        assert find_secret(log.read_bytes()) is None, log


@pytest.fixture(scope="session")
def start_function(
    redis_server: RedisServer, model_server: ModelServer, logs: Path
) -> Iterator[StartFunction]:
    """Start functions with settings of their own; all are stopped at the end."""
    started: list[Function] = []

    def start(*arguments: str, **settings: str) -> Function:
        environment = {
            "GPT_API_KEY": UPSTREAM_KEY,
            "OPENAI_BASE_URL": model_server.url,
            "LEASE_SECONDS": "2",
        } | settings
        if "REDIS_URL" not in environment:
            environment["REDIS_URL"] = redis_server.url
            environment["REDIS_CLUSTER"] = str(isinstance(redis_server, RedisCluster))
        function = Function(environment, logs / f"function-{next(_numbers)}.log", *arguments)
        started.append(function)
        return function.start()

    yield start
    for function in started:
        function.stop()


@pytest.fixture
def start_briefly(start_function: StartFunction) -> Iterator[StartFunction]:
    """Start functions that are killed at the end of the test, whatever they are doing."""
    started: list[Function] = []

    def start(**settings: str) -> Function:
        started.append(start_function(**settings))
        return started[-1]

    yield start
    for function in started:
        function.kill()


@pytest.fixture(scope="session")
def function(start_function: StartFunction) -> Function:
    return start_function(
        UPSTREAM_TIMEOUT_SECONDS="1", KEEPALIVE_SECONDS="0.3", CORS_ORIGINS="https://app.example"
    )


@pytest.fixture
def client(function: Function, model: ModelServer) -> Client:
    return function.client


@pytest.fixture
def server() -> Iterator["JwksServer"]:
    """Publishes the keys that ID tokens are signed with."""
    from tests.signing import EC_KEY, RSA_KEY, JwksServer, jwk  # makes keys, which takes time

    server = JwksServer(jwk(RSA_KEY, "r1"), jwk(EC_KEY, "e1")).start()
    yield server
    server.stop()


@pytest.fixture
def tokens(server: "JwksServer") -> IdTokens:
    from tests.signing import id_tokens

    return id_tokens(KeySet(server.url))


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that no other test sees, on whatever kind of server the others run; it keeps its
    data when it is killed and started again.
    """
    server = RedisServer(tmp_path / "redis", persist=True).start()
    yield server
    server.stop()


@pytest.fixture
def agents(a: Client) -> Iterator[Agents]:
    """Agents that dial in to instances beside `a`, which is the test file's own."""
    started = Agents(a)
    yield started
    started.stop()
    assert wait_until(lambda: not connections(a)), connections(a)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """For the last piece of a model's answer; it is open once the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def one(start_function: StartFunction) -> Function:
    return start_function(KEEPALIVE_SECONDS="0.3")


@pytest.fixture(scope="module")
def other(start_function: StartFunction) -> Function:
    """A second instance on the same Redis."""
    return start_function(KEEPALIVE_SECONDS="0.3")


@pytest.fixture
def b(other: Function) -> Client:
    return other.client


@pytest.fixture
def chat_id() -> str:
    return f"chat-{next(_numbers)}"


@pytest.fixture
def deployer(tmp_path: Path, model: ModelServer) -> Iterator["Deployer"]:
    """deploy.sh in a checkout of its own, with the real gcloud and a stand-in of Google's APIs."""
    from tests.deploying import started_deployer

    yield from started_deployer(tmp_path, model)
