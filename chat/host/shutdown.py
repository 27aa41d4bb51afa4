"""Notice when the platform ends this process.

Cloud Run sends SIGTERM and, ten seconds later, SIGKILL. The server's own handler belongs to its
main thread and only stops it from accepting; the threads that serve requests do not learn of it. So
faulthandler, which may be used from any thread and calls the server's handler afterwards, writes
into a pipe that a thread of ours waits on.
"""

import faulthandler
import os
import signal
import threading
import time

_GRACE_SECONDS = 7.0


class Shutdown:
    """Turns may run on for a while after the signal, and are then ended and stored."""

    def __init__(self) -> None:
        self._due_at = float("inf")

    def watch(self) -> None:
        """Wait for SIGTERM from now on."""
        receiver, sender = os.pipe()
        faulthandler.register(signal.SIGTERM, file=sender, all_threads=False, chain=True)
        threading.Thread(target=self._wait, args=(receiver,), daemon=True).start()

    @property
    def has_begun(self) -> bool:
        return self._due_at < float("inf")

    def is_time(self, now: float) -> bool:
        """Whether a running turn must end now (monotonic seconds)."""
        return now >= self._due_at

    def _wait(self, receiver: int) -> None:
        os.read(receiver, 1)
        self._due_at = time.monotonic() + _GRACE_SECONDS
