"""How often one may be wrong about a key in a short time."""

import math
import threading
import time

from chat.core.errors import RateLimited

_BURST = 20
_PER_SECOND = 1.0


class Attempts:
    """A token bucket of this process: after a burst of wrong keys, one a second is looked into.

    The right key is never refused: whoever floods us must not lock the admin out.
    """

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._counted_at = time.monotonic()
        self._lock = threading.Lock()

    def spend(self) -> None:
        """Count a wrong key; raises RateLimited."""
        with self._lock:
            now = time.monotonic()
            left = min(_BURST, self._left + (now - self._counted_at) * _PER_SECOND)
            self._counted_at = now
            self._left = max(0.0, left - 1)
        if left < 1:
            seconds = math.ceil((1 - left) / _PER_SECOND)
            raise RateLimited("Too many wrong keys; try again later.", retry_after=seconds)
