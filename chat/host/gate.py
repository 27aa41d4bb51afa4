"""How many threads may do something at once that takes much memory, and memory that is given back."""

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_WAIT_SECONDS = 10.0
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_LARGE_BYTES = 256 * 1024
_ARENAS = 2


class Gate:
    """`with gate:` waits for its turn; raises `busy()` when that takes too long."""

    def __init__(self, at_once: int, busy: Callable[[], Exception]) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._busy = busy

    def __enter__(self) -> None:
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise self._busy()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._free.release()


class Room:
    """So many bytes may be held at once; whoever takes some gives them back."""

    def __init__(self, most_bytes: int, busy: Callable[[], Exception]) -> None:
        self._busy = busy
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Raises `busy()` when there is no room."""
        with self._lock:
            if count > self._left:
                raise self._busy()
            self._left -= count

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count


def give_memory_back() -> None:
    """Have large pieces of memory go back to the system when they are freed.

    By default the allocator keeps them, per thread: megabytes for each of hundreds of threads.
    """
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
