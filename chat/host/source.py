"""What the relay drives: a flow to a client, and how far its client has taken it."""

import socket
from collections.abc import Callable
from typing import Protocol

from chat.host.flow import Flow, Wait


class Source(Flow[bytes], Protocol):
    """A flow to one client: what comes of it are the bytes for the client's socket."""

    @property
    def needs_client(self) -> bool:
        """Whether it is finished when its client leaves; else it goes on to its end, for nobody."""

    @property
    def max_backlog(self) -> int:
        """How many bytes may wait for a client that does not keep up, beside one piece."""

    def finish(self) -> None:
        """Settle everything, also when it has not ended; takes time, like `work`."""


class Stream:
    """A source and its client, None when it is gone; `wait` is None while a worker has the source.

    `taken_at` is when the client last took something of the backlog.
    """

    __slots__ = "backlog client finished max_backlog over_at read_at source taken_at wait".split()

    def __init__(
        self, source: Source, client: socket.socket, finished: Callable[[], object]
    ) -> None:
        self.source = source
        self.client: socket.socket | None = client
        self.finished = finished
        self.wait: Wait | None = None
        self.backlog = bytearray()
        self.max_backlog = 0
        self.read_at = self.over_at = self.taken_at = 0.0

    def finish(self) -> None:
        self.source.finish()
        self.finished()
