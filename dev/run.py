"""`make run`: the function on http://localhost:8080, with everything it needs.

Without REDIS_HOST and REDIS_URL it gets a Redis of its own that keeps its data in `.data/`; without
GPT_API_KEY and OPENAI_BASE_URL a demo model that answers with what it was sent.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chat.settings import BadSettings, Settings, parse_settings, read_environment
from dev.data_folder import choose_server, mark
from dev.model import ModelServer
from dev.redis_server import RedisServer, end_with_parent, find_binaries

ROOT = Path(__file__).resolve().parent.parent
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A running turn loses at most its last second, as when an instance is killed, and is kept.
_INTERRUPTED_SECONDS = 0.5
_TERMINATED_SECONDS = 12.0  # turns may run on for seven


class _Stop(BaseException):
    """A signal that asks us to end."""


def main() -> int:
    """Run until a signal comes; raises RuntimeError or BadSettings."""
    environment = read_environment(ROOT)
    host, port = environment.get("HOST") or "127.0.0.1", environment.get("PORT") or "8080"
    check_address(host, port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with contextlib.suppress(_Stop), contextlib.ExitStack() as running:
        own = _use_demo_model(environment)
        folder = _data_folder(environment)
        if folder:
            own["REDIS_URL"] = "unix://not-yet-known"
        settings = parse_settings(environment | own)
        if folder:
            own["REDIS_URL"] = running.enter_context(own_redis(folder)).url
        process = running.enter_context(_function(environment | own, host, port))
        if _is_up(process, host, int(port)):
            model = _describe_model(settings, environment)
            print(_welcome(host, port, _describe_history(folder), model), flush=True)
        return process.wait()
    return 0


def check_address(host: str, port: str) -> None:
    """Whether one can listen there; raises RuntimeError that says what to do."""
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise RuntimeError(f"PORT must be a number from 1 to 65535, not {port!r}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as problem:
        is_address = isinstance(problem, socket.gaierror)
        reason = (str(problem.strerror) if is_address else os.strerror(problem.errno or 0)).lower()
        raise RuntimeError(
            f"Cannot listen on {host}:{port}: {reason}. Another port: make run PORT=8081"
        ) from None


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis that keeps its data in the folder; raises RuntimeError when none here can read it."""
    binary = choose_server(folder, find_binaries())
    server = RedisServer(folder, persist=True, binary=binary)
    try:
        server.start()
        mark(folder, binary)
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _function(
    environment: dict[str, str], host: str, port: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The function, in a session of its own: the terminal's Ctrl-C is for us alone.

    gunicorn's worker would get it beside its master's SIGQUIT, and can then hang in the lock of its
    thread pool for 30 s.
    """
    command = [sys.executable, "-m", "functions_framework", "--target=main"]
    process = subprocess.Popen(
        [*command, f"--host={host}", f"--port={port}"],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    except _Stop as stop:
        if stop.args[0] == signal.SIGTERM:  # as the platform ends it
            _end(process, signal.SIGTERM, _TERMINATED_SECONDS)
        else:
            _end(process, signal.SIGINT, _INTERRUPTED_SECONDS)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end(process: subprocess.Popen[bytes], number: int, patience_seconds: float) -> None:
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired, _Stop):
        process.wait(patience_seconds)


def _stop(number: int, _: Any) -> None:
    raise _Stop(number)


def _use_demo_model(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of a demo model, unless another one answers."""
    named = map(environment.get, ("GPT_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"))
    if any(named) or environment.get("GPT_MODEL") == "agent":
        return {}
    return {"OPENAI_BASE_URL": ModelServer().start().url}


def _describe_model(settings: Settings, environment: Mapping[str, str]) -> str:
    """Who answers, and with which key, from where: an exported key is not used in silence."""
    if not settings.has_upstream:
        return "whichever agent is connected"
    key = next((n for n in ("GPT_API_KEY", "OPENAI_API_KEY") if environment.get(n)), "")
    if not key and not environment.get("OPENAI_BASE_URL"):
        return "a demo that answers with what it was sent (set GPT_API_KEY for a real one)"
    source = "your shell" if os.environ.get(key) else ".env"
    used = f"{key} from {source}" if key else "no key"
    return f"{settings.gpt_model} at {urlsplit(settings.openai_base_url).netloc}, with {used}"


def _is_up(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until it listens; false when it ended instead."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((reachable, port), 1) as probe:
            # While nobody listens there, a connection can reach itself, if it leaves from this port.
            if probe.getsockname() != probe.getpeername():
                return True
        time.sleep(0.02)
    return False


def _welcome(host: str, port: str, history: str, model: str) -> str:
    name = "localhost" if host in (*_LOOPBACK, "0.0.0.0", "::") else host
    lines = [f"Chatkeep on http://{name}:{port}", f"  history: {history}", f"  model:   {model}"]
    if host not in _LOOPBACK:
        lines.append(f"  access:  HOST={host} lets other machines in")
    lines.append(
        f'Try: curl -N {name}:{port}/demo/chat -d \'{{"content": "Hello", "stream": true}}\''
    )
    return "\n".join([*lines, "Stop with Ctrl-C."])


def _data_folder(environment: Mapping[str, str]) -> Path | None:
    """Of a Redis of its own; None when the settings name one."""
    if environment.get("REDIS_HOST") or environment.get("REDIS_URL"):
        return None
    return Path(environment.get("DATA_DIR") or ROOT / ".data")


def _describe_history(folder: Path | None) -> str:
    if folder is None:
        return "the Redis of your settings"
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    return f"its own Redis, data in {shown}/"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, BadSettings) as problem:
        sys.exit(str(problem))
