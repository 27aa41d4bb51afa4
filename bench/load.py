"""Model and clients of the speed benchmark, in C so that they are not the bottleneck."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from dev.redis_server import end_with_parent

_HERE = Path(__file__).resolve().parent
NO_COMPILER = "make bench skips the speeds: they need Linux and a C compiler (cc)."


@dataclass(frozen=True)
class Load:
    """What the clients do: a number of turns each, or as many as they can in a number of seconds.

    They begin all at once, or one after the other, evenly over `spread_ms`.
    """

    clients: int
    chunks: int
    turns: int = 0
    seconds: float = 0.0
    stream: bool = True
    pause_ms: float = 0.0
    spread_ms: float = 0.0
    turns_of_a_chat: int = 10

    @property
    def ideal_ms(self) -> float:
        """How long an answer takes if nothing delays it."""
        return self.chunks * self.pause_ms


@dataclass(frozen=True)
class Heard:
    """What the clients measured; rates leave out the ramp at the beginning and at the end."""

    turns: int
    failed: int
    chunks: int
    turns_per_second: float
    chunks_per_second: float
    first_ms_p50: float
    first_ms_p99: float
    turn_ms_p50: float
    turn_ms_p99: float
    seconds: float
    cpu_seconds: float


def can_compile() -> bool:
    """Whether the driver and the model can be built here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class Model:
    """The model API as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [_compile("upstream", folder)], stdout=subprocess.PIPE, preexec_fn=end_with_parent
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def pace(self, load: Load) -> None:
        """Answer with the chunks and pauses of this load from now on."""
        path = f"/pace/{load.chunks}/{round(load.pause_ms * 1000)}"
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5).read()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Clients:
    """Runs the driver, the C program that plays all clients."""

    def __init__(self, folder: Path) -> None:
        self._program = _compile("driver", folder)

    def run(self, load: Load, port: int, path: str, body: str, headers: str) -> Heard:
        """Run a load against a port; `headers` are lines that each end in CRLF."""
        numbers = (load.clients, load.turns, load.seconds, load.turns_of_a_chat, load.chunks)
        command = [self._program, *map(str, (port, *numbers, load.spread_ms)), path, body, headers]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, preexec_fn=end_with_parent
        )
        return Heard(**json.loads(done.stdout))


def _compile(name: str, folder: Path) -> str:
    program = folder / name
    if not program.exists():
        source = str(_HERE / f"{name}.c")
        subprocess.run(["cc", "-O2", "-o", str(program), source], check=True)
    return os.fspath(program)
