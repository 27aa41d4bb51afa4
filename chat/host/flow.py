"""A flow: work that takes a while and never blocks. It says what it waits for; its driver waits.

Two things drive flows: `pump`, below, one in the calling thread; and the relay (relay.py), all those
whose client's socket it has.
"""

import math
import time
from collections.abc import Iterator
from typing import Final, Protocol, TypeVar

import msgspec

from chat.host.sockets import wait_readable

TICK_SECONDS = 0.5
T_co = TypeVar("T_co", covariant=True)


class Readable(msgspec.Struct, frozen=True):
    """Waits for a descriptor to be readable; or, while there is something to send, writable.

    A flow keeps one, and makes none per chunk.
    """

    fd: int
    or_writable: bool = False


class DueAt(msgspec.Struct, frozen=True):
    """Waits for a moment (monotonic seconds)."""

    at: float


class WorkDue(msgspec.Struct, frozen=True):
    """Waits for nothing: `work` is due; or is once the client has taken what it was sent."""

    when_taken: bool = False


WORK_DUE: Final = WorkDue()
WORK_WHEN_TAKEN: Final = WorkDue(when_taken=True)
Wait = Readable | DueAt | WorkDue


class Flow(Protocol[T_co]):
    """One thread at a time calls these methods; each returns what has come of it, perhaps nothing."""

    @property
    def ended(self) -> object:
        """True in a condition once nothing more will come; it comes true in `work`."""

    def waits_for(self) -> Wait: ...

    def on_readable(self) -> T_co:
        """Take what has come, and send what fits, at once. Also called at every tick."""

    def work(self) -> T_co:
        """Do the next thing that takes time: a round trip, a connection."""


def wait_for(wait: Wait, max_seconds: float) -> None:
    """Block this thread until what is waited for has come about, but not longer than that."""
    if isinstance(wait, Readable):
        wait_readable(wait.fd, max_seconds, or_writable=wait.or_writable)
    elif isinstance(wait, DueAt):
        time.sleep(max(0.0, min(wait.at - time.monotonic(), max_seconds)))


def pump(
    flow: Flow[T_co], tick_seconds: float = TICK_SECONDS, until: float = math.inf
) -> Iterator[T_co]:
    """Drive one flow in this thread, to its end or until a moment."""
    while not flow.ended:
        wait = flow.waits_for()
        if isinstance(wait, WorkDue):
            yield flow.work()
        else:
            wait_for(wait, max(0.0, min(tick_seconds, until - time.monotonic())))
            yield flow.on_readable()
        if time.monotonic() >= until:
            return


def run_to_end(flow: Flow[object]) -> None:
    """Drive a flow in this thread, for nobody."""
    for _ in pump(flow):
        pass
