"""A running subject: on its own core, with its own Redis, its processes metered."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import Model
from bench.subjects import Subject
from dev.redis_server import RedisServer, end_with_parent
from tests.harness import clean_environment, free_port

_START_SECONDS = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cores:
    """The core of the subject, and those that everything else shares."""

    subject: set[int]
    others: set[int]


def share_cores() -> Cores:
    """The last core is for the subject; this process and its children move to the others."""
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(0, others)
    return Cores({last}, set(others) or {last})


class Server:
    """A subject's processes; `cold_seconds`: from the start of the process to its first answer."""

    def __init__(self, subject: Subject, model: Model, cores: Cores, folder: Path) -> None:
        self.subject = subject
        self.cold_seconds = 0.0
        self.port = model.port if subject.is_the_model else free_port()
        self.redis = RedisServer(folder / "redis").start() if subject.uses_redis else None
        self._cores = cores
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._places = {
            "{port}": str(self.port),
            "{model}": model.url,
            "{redis}": self.redis.url if self.redis else "",
            "{folder}": str(folder),
        }

    def fill(self, text: str) -> str:
        for name, value in self._places.items():
            text = text.replace(name, value)
        return text

    def start(self) -> None:
        """Start it, and wait until it has answered a turn."""
        if self.subject.is_the_model:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.subject.files.items():
            (self._folder / name).write_text(self.fill(text))
        environment = {name: self.fill(text) for name, text in self.subject.environment.items()}
        began = time.monotonic()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.fill(word) for word in self.subject.command],
                cwd=self.subject.folder,
                env=clean_environment() | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._settle_down,
            )
        self._say_first(began + _START_SECONDS)
        self.cold_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End its processes; its Redis keeps running."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop()
        if self.redis:
            self.redis.stop()

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far."""
        return sum(map(cpu_seconds, self._pids()))

    def resident_mib(self) -> float:
        """The memory of its largest process, which is a function's worker."""
        return max(map(_resident_bytes, self._pids()), default=0) / 2**20

    def _pids(self) -> Iterator[int]:
        if self._process:
            yield from _tree(self._process.pid)

    def _settle_down(self) -> None:
        os.sched_setaffinity(0, self._cores.subject)
        end_with_parent()

    def _say_first(self, give_up: float) -> None:
        body = self.subject.body_of(stream=False).encode()
        path = self.subject.path.replace("CHAT", "first")
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"{self.fill(self.subject.headers)}Content-Length: {len(body)}\r\n\r\n"
        reply = b""
        while not reply and self._process and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
                    connection.sendall(head.encode() + body)
                    reply = connection.recv(65536)
            except ConnectionError:
                time.sleep(0.002)
            if time.monotonic() > give_up:
                break
        if not reply.startswith(b"HTTP/1.1 200"):
            log = (self._folder / "log").read_text()[-2000:]
            raise RuntimeError(f"{self.subject.name} did not answer: {reply!r}\n{log}")


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, also of those that have ended.

    The same as in /proc/<pid>/stat, but in nanoseconds and not in hundredths of a second: Linux
    makes the number of another process' clock from its pid.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
