"""One thread that drives many flows, each to its client: turns, their readers, agents.

It waits for every model, client, agent, and reply of Redis to a reader at once. A request's own
thread begins a turn and hands it over as a `Source`, with its client's socket; then it is free for
the next request. From there on the loop reads what comes and writes it on, and never blocks: a client
that does not read has a backlog, and what takes time (storing a turn, calling the model, asking Redis)
is done by a few workers. A source is with one thread at a time; clients are with the loop alone.

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

from chat.host.flow import TICK_SECONDS, WORK_DUE, WORK_WHEN_TAKEN, DueAt, Readable, Wait
from chat.host.sockets import WakeUpPipe, close_read, has_closed
from chat.host.source import Source, Stream

_MAX_BACKLOGS = 64 * 1024 * 1024  # of all clients together
_AFTER_FAILURE_SECONDS = 0.1
# After each system call the loop waits for the interpreter lock, so long for each busy thread.
_SWITCH_SECONDS = 0.0005
log = logging.getLogger("chatkeep")


class Relay:
    """Drives sources. Its threads are made at first use, because the server forks."""

    def __init__(self, keepalive_seconds: float, client_seconds: float, threads: int) -> None:
        self._tick_seconds = min(TICK_SECONDS, keepalive_seconds)
        self._client_seconds = client_seconds
        self._backlogs = 0
        self._workers = ThreadPoolExecutor(threads, "relay-worker")
        self._selector = selectors.DefaultSelector()
        self._wake_up = WakeUpPipe()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._streams: dict[Source, Stream] = {}
        self._somebody_stays = False

    def carry(self, source: Source, client: socket.socket, finished: Callable[[], object]) -> None:
        """Take both over from the calling thread; `finished` is called after `source.finish`."""
        stream = Stream(source, client, finished)
        with self._changed:
            self._streams[source] = stream
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
                self._thread.start()
        self._call(partial(self._begin, stream))

    def wake(self, source: Source) -> None:
        """It has something that no descriptor shows; any thread may say so."""
        if stream := self._streams.get(source):
            self._call(partial(self._on_wake, stream))

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
        self._wake_up.wake()

    def _run(self) -> None:
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._selector.register(self._wake_up, selectors.EVENT_READ, self._run_calls)
        while True:
            try:
                self._run_once()
            except Exception:  # one stream must not end all others
                log.exception("the relay failed")
                time.sleep(_AFTER_FAILURE_SECONDS)

    def _run_once(self) -> None:
        spare = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(spare):
            key.data()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def _run_calls(self) -> None:
        self._wake_up.drain()
        while self._calls:
            self._calls.popleft()()

    def _call_at(self, at: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (at, next(self._numbers), call))

    def _begin(self, stream: Stream) -> None:
        self._read(stream)
        self._call_at(stream.read_at + self._tick_seconds, partial(self._tick, stream))

    def _tick(self, stream: Stream) -> None:
        """A turn may have been stopped, or owe a keep-alive; a client may be stuck."""
        now = time.monotonic()
        if stream.backlog and not stream.is_taken(now, self._client_seconds):
            self._drop_client(stream)
        next_at = stream.read_at + self._tick_seconds
        if next_at <= now:
            next_at = now + self._tick_seconds
            if stream.wait is not None:
                self._read(stream)
        if not stream.over_at or stream.client:
            self._call_at(next_at, partial(self._tick, stream))

    def _on_wake(self, stream: Stream) -> None:
        if stream.wait is not None:  # else a worker has it, and it will be asked what is next
            self._read(stream)

    def _on_due(self, stream: Stream, wait: DueAt) -> None:
        if stream.wait is wait:
            self._read(stream)

    def _read(self, stream: Stream) -> None:
        stream.read_at = time.monotonic()
        try:
            piece = stream.source.on_readable()
        except Exception:
            log.exception("a stream failed")
            self._give_up(stream)
        else:
            self._pass_on(stream, piece)

    def _work(self, stream: Stream) -> None:
        """Runs in one of the workers."""
        try:
            piece = stream.source.work()
            if stream.source.ended:
                stream.finish()
        except Exception:
            log.exception("a stream failed")
            self._call(partial(self._give_up, stream))
        else:
            self._call(partial(self._pass_on, stream, piece))

    def _pass_on(self, stream: Stream, piece: bytes) -> None:
        """Write what came, and see to what the source waits for next."""
        source = stream.source
        if piece and stream.client:
            self._write(stream, stream.client, piece)
        if source.ended:
            self._watch(stream, None)
            self._end(stream)
        elif not stream.client and source.needs_client:
            self._give_up(stream)
        elif (wait := source.waits_for()) is WORK_DUE or (
            wait is WORK_WHEN_TAKEN and not stream.backlog
        ):
            self._watch(stream, None)
            self._workers.submit(self._work, stream)
        elif wait is not stream.wait and wait != stream.wait:
            self._watch(stream, wait)

    def _watch(self, stream: Stream, wait: Wait | None) -> None:
        if isinstance(stream.wait, Readable):
            self._selector.unregister(stream.wait.fd)
        stream.wait = wait
        if isinstance(wait, Readable):
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wait.or_writable else 0)
            self._selector.register(wait.fd, events, partial(self._read, stream))
        elif isinstance(wait, DueAt):
            self._call_at(wait.at, partial(self._on_due, stream, wait))
            if stream.is_silent and stream.source.needs_client:
                # Where nothing is written, no write shows that the client has left.
                on_client = partial(self._on_client, stream)
                stream.register(self._selector, selectors.EVENT_READ, on_client)

    def _on_client(self, stream: Stream) -> None:
        if stream.client and has_closed(stream.client):
            self._hang_up(stream)
            self._on_wake(stream)
        elif stream.client:  # it has sent more, which nobody reads
            stream.unregister(self._selector, stream.client)

    def _write(self, stream: Stream, client: socket.socket, piece: bytes) -> None:
        if stream.is_silent:
            stream.unregister(self._selector, client)
            stream.is_silent = False
        if stream.backlog:
            if len(stream.backlog) > stream.max_backlog:
                self._hang_up(stream)
            else:
                stream.backlog += piece
                self._hold(len(piece))
            return
        try:
            sent = client.send(piece)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(stream)
            return
        if sent < len(piece):
            stream.backlog = bytearray(piece[sent:])
            # The piece itself makes nobody slow, however long it is.
            stream.max_backlog = len(stream.backlog) + stream.source.max_backlog
            stream.taken_at = time.monotonic()
            stream.register(self._selector, selectors.EVENT_WRITE, partial(self._flush, stream))
            self._hold(len(stream.backlog))

    def _hold(self, count: int) -> None:
        """More waits for clients; when it is too much, not for the slowest any longer."""
        self._backlogs += count
        while self._backlogs > _MAX_BACKLOGS:
            slow = (stream for stream in list(self._streams.values()) if stream.backlog)
            self._drop_client(min(slow, key=lambda stream: stream.taken_at))

    def _flush(self, stream: Stream) -> None:
        """The client, who was slow, can take more."""
        if not stream.client:
            return
        try:
            sent = stream.client.send(stream.backlog)
        except BlockingIOError:
            return
        except OSError:
            self._drop_client(stream)
            return
        del stream.backlog[:sent]
        self._backlogs -= sent
        stream.taken_at = time.monotonic()
        if not stream.backlog:
            stream.unregister(self._selector, stream.client)
            if stream.over_at:
                self._leave(stream)
            elif stream.wait is WORK_WHEN_TAKEN:
                self._pass_on(stream, b"")

    def _drop_client(self, stream: Stream) -> None:
        """The client is gone or too slow, whether its stream goes on or not."""
        self._hang_up(stream)
        if stream.over_at:
            self._leave(stream)

    def _hang_up(self, stream: Stream) -> None:
        """The client is gone, or as good as gone: what comes from now on is for nobody."""
        client, stream.client = stream.client, None
        if client is None:
            return
        stream.unregister(self._selector, client)
        self._backlogs -= len(stream.backlog)
        stream.backlog = bytearray()
        close_read(client)

    def _end(self, stream: Stream) -> None:
        stream.over_at = time.monotonic()
        if not stream.backlog:
            self._leave(stream)

    def _give_up(self, stream: Stream) -> None:
        """Something of ours is broken, and the client may come again; or the client is gone."""
        stream.over_at = time.monotonic()
        self._watch(stream, None)
        self._hang_up(stream)
        self._workers.submit(self._finish, stream)

    def _finish(self, stream: Stream) -> None:
        """Runs in one of the workers."""
        try:
            stream.finish()
        except Exception:
            log.exception("a stream could not be finished")
        self._call(partial(self._leave, stream))

    def _leave(self, stream: Stream) -> None:
        self._hang_up(stream)
        with self._changed:
            self._streams.pop(stream.source, None)
            if not self._streams:
                self._changed.notify_all()
