"""One thread that carries all turns of this process, all who follow turns, and all agents.

It waits for every model, every client, every agent and every reply of Redis to a reader at once.

A request's own thread begins a turn, and hands over what flows from it (a `Source`) with its
client's socket; then it is free for the next request. From there on the loop reads what comes,
and writes it on, and never waits for anything else: a client that does not read has a buffer,
and whatever takes time (storing the turn, calling the model again, asking Redis) is done by a few
threads that work for all. A source is with one thread at a time, and clients are with the loop alone.

The server ends its process as soon as it has nothing to serve. So one of its threads stays
(`stay`) until nothing is carried any more.
"""

import heapq
import itertools
import logging
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

_MAX_SILENCE_SECONDS = 0.5
_LAST_WORDS_SECONDS = 10.0
_READ_BYTES = 65536
_AFTER_FAILURE_SECONDS = 0.1
# After each system call the loop waits for the interpreter, at most so long for each busy thread.
_SWITCH_SECONDS = 0.0005
log = logging.getLogger("chatkeep")


class Source(Protocol):
    """What flows to one client, as the bytes that go over its socket."""

    @property
    def ended(self) -> bool:
        """Nothing more will come."""

    @property
    def needs_client(self) -> bool:
        """When its client has left, it is closed; else it goes on, for nobody, to its end."""

    @property
    def most_waiting(self) -> int:
        """So many bytes may wait for a client that does not read."""

    def fileno(self) -> int | None:
        """What to wait for before `hear`; -1: for some time to pass; None: it is time to `work`."""

    def hear(self) -> bytes:
        """What has come, if anything; at once. Also asked when nothing came for a while."""

    def work(self) -> bytes:
        """Do the next thing that takes time."""

    def close(self) -> None:
        """Be done with it, without a client, also when it has not ended; takes time, like `work`."""


class Relay:
    """Carries sources to their clients. Its threads are made at first use: the server forks."""

    def __init__(self, keepalive_seconds: float, threads: int) -> None:
        self._look_every = min(_MAX_SILENCE_SECONDS, keepalive_seconds)
        self._workers = ThreadPoolExecutor(threads, "relay-worker")
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, _Stream]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._streams: dict[Source, _Stream] = {}
        self._somebody_stays = False

    def carry(self, source: Source, client: socket.socket) -> None:
        """Take both over from the calling thread."""
        stream = _Stream(source, client)
        with self._changed:
            self._streams[source] = stream
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
                self._thread.start()
        self._call(partial(self._begin, stream))

    def ring(self, source: Source) -> None:
        """There is something to `hear` that `fileno` does not show; any thread may say so."""
        if stream := self._streams.get(source):
            self._call(partial(self._answer_ring, stream))

    def stay(self) -> Iterator[bytes]:
        """Keep the calling thread, unless another one stays, while anything is carried; no bytes."""
        with self._changed:
            if self._somebody_stays:
                return
            self._somebody_stays = True
            try:
                self._changed.wait_for(lambda: not self._streams)
            finally:
                self._somebody_stays = False
        yield from ()

    def _call(self, call: Callable[[], None]) -> None:
        """Have the loop do something."""
        self._calls.append(call)
        try:
            self._bell.send(b"\0")
        except BlockingIOError:
            pass  # it has rung often enough

    def _run(self) -> None:
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, self._answer_calls)
        while True:
            try:
                self._turn_over()
            except Exception:  # one stream must not end all others
                log.exception("the relay failed")
                time.sleep(_AFTER_FAILURE_SECONDS)

    def _turn_over(self) -> None:
        """Wait until somebody has something, and see to it."""
        spare = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(spare):
            key.data()
        self._look_at_the_silent()

    def _answer_calls(self) -> None:
        self._ear.recv(_READ_BYTES)
        while self._calls:
            self._calls.popleft()()

    def _look_at_the_silent(self) -> None:
        """A turn may have been stopped, or want to say that it is alive; a client may be stuck."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            stream = heapq.heappop(self._timers)[2]
            heard_lately = stream.heard_at + self._look_every > now
            if stream.watched is not None and not heard_lately:
                self._hear(stream)
            if not stream.over_at:
                self._look_again(stream, stream.heard_at if heard_lately else now)
            elif stream.client and now < stream.over_at + _LAST_WORDS_SECONDS:
                self._look_again(stream, now)
            elif stream.client:
                self._leave(stream)

    def _look_again(self, stream: "_Stream", since: float) -> None:
        due_at = since + self._look_every
        heapq.heappush(self._timers, (due_at, next(self._numbers), stream))

    def _begin(self, stream: "_Stream") -> None:
        self._hear(stream)
        self._look_again(stream, stream.heard_at)

    def _answer_ring(self, stream: "_Stream") -> None:
        if stream.watched is not None:  # else it will be asked what is next, by and by
            self._hear(stream)

    def _hear(self, stream: "_Stream") -> None:
        stream.heard_at = time.monotonic()
        try:
            piece = stream.source.hear()
        except Exception:
            log.exception("a stream failed")
            self._give_up(stream)
        else:
            self._pass_on(stream, piece)

    def _work(self, stream: "_Stream") -> None:
        """Runs in one of the workers."""
        try:
            piece = stream.source.work()
            if stream.source.ended:
                stream.source.close()
        except Exception:
            log.exception("a stream failed")
            self._call(partial(self._give_up, stream))
        else:
            self._call(partial(self._pass_on, stream, piece))

    def _pass_on(self, stream: "_Stream", piece: bytes) -> None:
        """Write what came, and see to it that somebody waits for what comes next."""
        if piece and stream.client:
            self._write(stream, stream.client, piece)
        if not stream.client and stream.source.needs_client and not stream.source.ended:
            self._give_up(stream)
            return
        wait_for = stream.source.fileno()
        if wait_for != stream.watched:
            self._watch(stream, wait_for)
        if stream.source.ended:
            self._end(stream)
        elif wait_for is None:
            self._workers.submit(self._work, stream)

    def _watch(self, stream: "_Stream", fd: int | None) -> None:
        if stream.watched is not None and stream.watched >= 0:
            self._selector.unregister(stream.watched)
        stream.watched = fd
        if fd is not None and fd >= 0:
            self._selector.register(fd, selectors.EVENT_READ, partial(self._hear, stream))

    def _write(self, stream: "_Stream", client: socket.socket, piece: bytes) -> None:
        if stream.waiting:
            if len(stream.waiting) > stream.most_waiting:
                self._hang_up(stream)
            else:
                stream.waiting += piece
            return
        try:
            sent = client.send(piece)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(stream)
            return
        if sent < len(piece):
            stream.waiting = bytearray(piece[sent:])
            stream.most_waiting = len(stream.waiting) + stream.source.most_waiting
            self._selector.register(client, selectors.EVENT_WRITE, partial(self._flush, stream))

    def _flush(self, stream: "_Stream") -> None:
        """The client, who was slow, can take more."""
        if not stream.client:
            return
        try:
            del stream.waiting[: stream.client.send(stream.waiting)]
        except BlockingIOError:
            return
        except OSError:
            self._hang_up(stream)
        if not stream.waiting:
            if stream.client:
                self._selector.unregister(stream.client)
            if stream.over_at:
                self._leave(stream)

    def _hang_up(self, stream: "_Stream") -> None:
        """The client is gone, or as good as gone: what comes from now on is for nobody."""
        client, stream.client = stream.client, None
        if client is None:
            return
        if stream.waiting:
            self._selector.unregister(client)
            stream.waiting = bytearray()
        try:
            # Closing on bytes that were not read would take back the last sent.
            client.recv(_READ_BYTES)
        except OSError:
            pass
        client.close()

    def _end(self, stream: "_Stream") -> None:
        stream.over_at = time.monotonic()
        if not stream.waiting:
            self._leave(stream)

    def _give_up(self, stream: "_Stream") -> None:
        """Something of ours is broken, and the client may come again; or the client is gone."""
        stream.over_at = time.monotonic()
        self._watch(stream, None)
        self._hang_up(stream)
        self._workers.submit(self._close, stream)

    def _close(self, stream: "_Stream") -> None:
        """Runs in one of the workers."""
        try:
            stream.source.close()
        except Exception:
            log.exception("a stream could not be closed")
        self._call(partial(self._leave, stream))

    def _leave(self, stream: "_Stream") -> None:
        self._hang_up(stream)
        with self._changed:
            self._streams.pop(stream.source, None)
            if not self._streams:
                self._changed.notify_all()


class _Stream:
    """A source and its client; `client` is None when it is gone, `watched` while a worker works."""

    __slots__ = ("client", "heard_at", "most_waiting", "over_at", "source", "waiting", "watched")

    def __init__(self, source: Source, client: socket.socket) -> None:
        self.source = source
        self.client: socket.socket | None = client
        self.watched: int | None = None
        self.waiting = bytearray()
        self.most_waiting = 0
        self.heard_at = self.over_at = 0.0
