"""What the relay drives: a flow to a client, and how far its client has taken it."""

import socket
from collections.abc import Callable
from selectors import BaseSelector
from typing import Protocol

from chat.host.flow import Flow, Wait
from chat.host.sockets import bytes_under_way


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

    __slots__ = """backlog client finished is_registered is_silent max_backlog
        over_at read_at source taken_at under_way wait""".split()

    def __init__(
        self, source: Source, client: socket.socket, finished: Callable[[], object]
    ) -> None:
        self.source = source
        self.client: socket.socket | None = client
        self.finished = finished
        self.wait: Wait | None = None
        # Nothing has been written yet; the selector has the client.
        self.is_silent, self.is_registered = True, False
        self.backlog = bytearray()
        self.max_backlog = self.under_way = 0
        self.read_at = self.over_at = self.taken_at = 0.0

    def finish(self) -> None:
        self.source.finish()
        self.finished()

    def is_taken(self, now: float, max_idle_seconds: float) -> bool:
        """Whether the client takes what it is sent, or has not been idle for too long."""
        # The system has a buffer too, of megabytes, and shows room in it only when a third is free.
        if self.client and (under_way := bytes_under_way(self.client)) != self.under_way:
            self.under_way, self.taken_at = under_way, now
        return now < self.taken_at + max_idle_seconds

    def register(self, selector: BaseSelector, event: int, call: Callable[[], object]) -> None:
        """Have `call` called when the client's socket is ready, unless it is waited for already."""
        if self.client and not self.is_registered:
            selector.register(self.client, event, call)
            self.is_registered = True

    def unregister(self, selector: BaseSelector, client: socket.socket) -> None:
        if self.is_registered:
            selector.unregister(client)
            self.is_registered = False
