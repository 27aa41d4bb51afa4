"""The time in Redis, estimated from its replies, and the deadlines of commands in that time.

A command may be executed long after the caller gave up: Redis was frozen while it waited in the
socket's buffer. So each script that changes anything for a client carries a deadline, which it
compares with the clock of Redis, because the clocks of the instances differ. The deadline lies before
the moment at which the caller gives up and tells its client: "503" means that nothing will come of it.
"""

import time

#: How long a command may be on its way; shorter than the time-out after which a caller gives up.
PATIENCE_MS = 1000


class RedisClock:
    """How far the clock of Redis is ahead of our monotonic clock."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        self._learned_at_ms = 0

    @property
    def is_set(self) -> bool:
        """Whether a reply with a time has been read."""
        return self._ahead_ms is not None

    def learn(self, redis_now_ms: int) -> None:
        """Take note of the time in a reply.

        A reply is read after it was written, on a busy machine seconds after, so an estimate can
        only be too low: the highest is the best one. It fades by a thousandth of the time that has
        passed, so that it follows clocks that drift apart.
        """
        now_ms = _monotonic_ms()
        ahead_ms: float = redis_now_ms - now_ms
        if self._ahead_ms is not None:
            faded_ms = (now_ms - self._learned_at_ms) / 1000
            ahead_ms = max(ahead_ms, self._ahead_ms - faded_ms)
        self._ahead_ms, self._learned_at_ms = ahead_ms, now_ms

    def deadline_ms(self) -> int:
        """The time after which Redis must not execute a command that is sent now."""
        return self.now_ms() + PATIENCE_MS

    def now_ms(self) -> int:
        """The time in Redis; before the first reply, that of this machine."""
        if self._ahead_ms is None:
            return int(time.time() * 1000)
        return _monotonic_ms() + int(self._ahead_ms)


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
