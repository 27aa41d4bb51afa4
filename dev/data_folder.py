"""Which Redis server may use a data folder: one that cannot read it would silently begin a new one.

Redis 6.2 keeps its commands in `appendonly.aof`; Redis 7 and Valkey in `appendonlydir/`, and neither
looks for the other's. Each also refuses dumps of a newer version. So a marker file says who wrote
the folder last.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

_MARKER = "written-by"
_SINGLE_FILE, _MANY_FILES = "appendonly.aof", "appendonlydir"
_BUILD = re.compile(r"(Redis|Valkey) (?:server v=)?(\d+)\.(\d+)")


class Build(msgspec.Struct, frozen=True):
    """Flavour and version of a Redis server."""

    flavour: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.flavour} {self.version[0]}.{self.version[1]}"

    def can_read(self, writer: "Build") -> bool:
        """Whether it finds, and can load, what `writer` left on disk."""
        if self.flavour == writer.flavour:
            return self.version >= writer.version
        # Valkey began as a copy of Redis 7.2; since then the formats differ.
        return self.flavour == "Valkey" and writer.version <= (7, 2)


_REDIS_6, _REDIS_7, _VALKEY_9 = (
    Build("Redis", (6, 2)),
    Build("Redis", (7, 0)),
    Build("Valkey", (9, 0)),
)


def read_build(binary: str) -> Build | None:
    """What a server says of itself; None if it is none that we know."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    return _parse(told.stdout)


def choose_server(folder: Path, binaries: Iterable[str]) -> str:
    """The first of the servers that can read the folder; raises RuntimeError that says what to do."""
    writer = _find_writer(folder)
    builds = {binary: read_build(binary) for binary in binaries}
    for binary, build in builds.items():
        if writer is None or (build and build.can_read(writer)):
            return binary
    here = ", ".join(sorted({str(build or binary) for binary, build in builds.items()}))
    raise RuntimeError(
        f"The chats in {folder} were written by {writer}, which {here} cannot read. Install"
        f" {writer} or newer, or begin anew elsewhere: make run DATA_DIR=<another folder>"
    )


def mark(folder: Path, binary: str) -> None:
    """Remember who writes the folder from now on."""
    if build := read_build(binary):
        (folder / _MARKER).write_text(f"{build}\n")


def _find_writer(folder: Path) -> Build | None:
    """Who wrote it last, by the marker and by the files themselves; None for an empty folder."""
    marker = folder / _MARKER
    marked = _parse(marker.read_text()) if marker.exists() else None
    has_many, has_single = (folder / _MANY_FILES).exists(), (folder / _SINGLE_FILE).exists()
    if has_many and has_single:
        raise RuntimeError(
            f"{folder} holds the chats of two servers: {_SINGLE_FILE} (Redis 6.2) and"
            f" {_MANY_FILES} (Redis 7, Valkey). Move one of them elsewhere."
        )
    if has_many and (marked is None or not marked.can_read(_REDIS_7)):
        # No marker, or one from before an upgrade that was cut short.
        bases = (folder / _MANY_FILES).glob("*.base.rdb")
        return _VALKEY_9 if any(map(_is_of_valkey, bases)) else _REDIS_7
    return marked or (_REDIS_6 if has_single else None)


def _is_of_valkey(dump: Path) -> bool:
    with dump.open("rb") as file:
        return file.read(6) == b"VALKEY"


def _parse(text: str) -> Build | None:
    found = _BUILD.match(text)
    return Build(found[1], (int(found[2]), int(found[3]))) if found else None
