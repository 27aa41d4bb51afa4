"""How many threads may do something at once that takes much memory, and memory that is given back."""

import ctypes
import threading
from contextlib import suppress
from types import TracebackType

from chat.core.errors import StoreUnavailable

_WAIT_SECONDS = 10.0
_BUSY = "This instance is busy with large requests."
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_LARGE_BYTES = 256 * 1024
_ARENAS = 2


class Gate:
    """`with gate:` waits for its turn; raises StoreUnavailable when that takes too long."""

    def __init__(self, at_once: int) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    def __enter__(self) -> None:
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise StoreUnavailable(_BUSY, retry_after=1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._free.release()


class Room:
    """So many bytes may be held at once; whoever takes some gives them back."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Raises StoreUnavailable when there is no room."""
        with self._lock:
            if count > self._left:
                raise StoreUnavailable(_BUSY, retry_after=1)
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
