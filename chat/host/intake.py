"""A request gets one of the server's threads when it has come whole, and not before.

gunicorn gives a connection a thread at its first byte, and that thread waits for the rest: with as
many slow clients as there are threads, nobody else is served. But `ThreadWorker.handle` may answer
`_DEFER`, which puts a connection back to the poller of the worker. So we read what is there without
waiting, keep it beside the connection and defer, until the request is whole; then gunicorn parses
what we have read as if it had just come. How connections end is ours as well (lingering.py).

`handle` runs in the threads, one per connection at a time; the rest on the worker's own thread. They
share `_requests`, by socket, whose single operations are atomic, and `_held_bytes`, under the lock.
"""

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from chat.host.lingering import Lingering
from chat.host.request_buffer import RequestBuffer, RequestRefused
from chat.host.sockets import is_writable, wait_readable

_MAX_HELD_BYTES = 64 * 1024 * 1024  # of all requests of this process that are not whole yet
_READ_BYTES = 65536
_FIRST_LOOK_SECONDS = 0.005  # a request nearly always follows its connection at once
_DEFER = gthread._DEFER  # noqa: SLF001  (there is no public name for it)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The bytes of an answer to what cannot be served: (status, message, its header Origin).
Refuse = Callable[[int, str, str], bytes]
#: The bytes of an answer that needs no body, to the head and the peer's address; b"": there is none.
Judge = Callable[[bytes, str], bytes]


class Intake:
    """Stands before the threads of a gunicorn worker (gunicorn 27, gthread)."""

    def __init__(
        self, max_body_bytes: int, timeout_seconds: float, refuse: Refuse, judge: Judge
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds
        self._refuse = refuse
        self._judge = judge
        self._lingering = Lingering()
        self._requests: dict[socket.socket, RequestBuffer] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()
        seconds, rest = divmod(timeout_seconds, 1)
        self._timeout_option = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
        worker = gthread.ThreadWorker
        self._serve, self._answer_request = worker.handle, worker.handle_request
        self._finish = worker.finish_request

    def install(self) -> None:
        """Have every worker that is forked from this process work so."""
        worker: Any = gthread.ThreadWorker
        worker.handle = lambda worker, conn: self.handle(worker, conn)
        worker.handle_request = lambda worker, req, conn: self.handle_request(worker, req, conn)
        worker.finish_request = lambda worker, conn, done: self.finish_request(worker, conn, done)
        worker.murder_pending = lambda worker: self.close_expired(worker)
        util.write_error = self._write_error

    def handle(self, worker: Any, conn: Any) -> Any:
        """In one of the threads: read what is there, and go on only with a whole request."""
        request = None
        try:
            request = self._requests.get(conn.sock) or self._open(conn)
            if self._read(conn, request):
                self._give_back(conn, request)
                return self._serve(worker, conn)
            if self._may_wait(conn, request):
                return _DEFER
        except RequestRefused as refused:
            self._answer(conn.sock, refused.status, refused.message, request)
        except OSError:
            pass  # the client is gone
        except BaseException:
            self._forget(conn.sock)
            raise
        self._forget(conn.sock)
        return False

    def handle_request(self, worker: Any, req: Any, conn: Any) -> Any:
        """In one of the threads: gunicorn has parsed the request, and answers it."""
        self._forget(conn.sock)  # at once: what follows on the connection is another request
        try:
            return self._answer_request(worker, req, conn)
        except BlockingIOError:  # SO_SNDTIMEO: to gunicorn, as if the client had gone
            raise BrokenPipeError(errno.EPIPE, "the client does not read") from None

    def finish_request(self, worker: Any, conn: Any, done: Any) -> None:
        """On the worker's own thread, after `handle`: wait for more, keep alive or close."""
        result = not done.cancelled() and not done.exception() and done.result()
        if not result or (result is _DEFER and not worker.alive):
            worker.nr_conns -= 1
            self._forget(conn.sock)
            self._lingering.close(worker.poller, conn.sock)
            return
        self._finish(worker, conn, done)
        if result is _DEFER:
            conn.timeout = time.monotonic() + self._timeout_seconds
            if len(worker.pending_conns) > worker.max_keepalived:
                self._expire(worker)  # else the slow ones would soon be all that are accepted

    def close_expired(self, worker: Any) -> None:
        """On the worker's own thread, every second at least."""
        now = time.monotonic()
        while worker.pending_conns and worker.pending_conns[0].timeout <= now:
            self._expire(worker)
        self._lingering.close_expired(worker.poller, now)

    def _expire(self, worker: Any) -> None:
        """Give up the connection that has been silent for longest."""
        conn = worker.pending_conns.popleft()
        with suppress(OSError, KeyError, ValueError):
            worker.poller.unregister(conn.sock)
        worker.nr_conns -= 1
        if (request := self._requests.get(conn.sock)) and request.data:
            self._answer(conn.sock, 408, "The rest of the request did not come.", request)
        self._forget(conn.sock)
        self._lingering.close(worker.poller, conn.sock)

    def _open(self, conn: Any) -> RequestBuffer:
        request = RequestBuffer(self._max_body_bytes, self._timeout_seconds, time.monotonic())
        self._requests[conn.sock] = request
        if not conn.parser:  # the first request of its connection
            # A client that does not read its answer holds the thread that writes it, not for ever.
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                conn.sock.setsockopt(socket.SOL_SOCKET, option, self._timeout_option)
        elif ahead := conn.parser.unreader.take_buffered():
            if not is_writable(conn.sock):
                raise ConnectionAbortedError("the client asks on and does not read")
            self._receive(request, ahead)
        return request

    def _read(self, conn: Any, request: RequestBuffer) -> bool:
        """Whether the request is whole, or no more of it will come."""
        conn.sock.setblocking(False)
        if not conn.data_ready and not conn.initialized:
            wait_readable(conn.sock, _FIRST_LOOK_SECONDS)
        while not request.whole:
            try:
                piece = conn.sock.recv(_READ_BYTES)
            except BlockingIOError:
                request.receive(b"", time.monotonic())
                return False
            if not piece:
                return True
            self._receive(request, piece)
        return True

    def _may_wait(self, conn: Any, request: RequestBuffer) -> bool:
        """Whether to wait for the rest: not for the body of somebody who may not come in."""
        if not request.has_head or request.is_judged:
            return True
        request.is_judged = True
        if refusal := self._judge(request.head, conn.client[0] if conn.client else ""):
            self._send(conn.sock, refusal)
            return False
        if request.wants_continue:
            conn.sock.send(_CONTINUE)
        return True

    def _receive(self, request: RequestBuffer, piece: bytes) -> None:
        before = len(request.data)
        try:
            request.receive(piece, time.monotonic())
        finally:
            self._hold(len(request.data) - before)

    def _give_back(self, conn: Any, request: RequestBuffer) -> None:
        conn.sock.setblocking(True)
        conn.init()
        conn.data_ready = True  # gunicorn need not wait for what we have
        conn.parser.unreader.unread(bytes(request.data))
        before = len(request.data)
        request.drop_body()
        self._hold(len(request.data) - before)

    def _hold(self, count: int) -> None:
        with self._lock:
            self._held_bytes += count
            too_many = count > 0 and self._held_bytes > _MAX_HELD_BYTES
        if too_many:
            raise RequestRefused(503, "Too many requests are half sent; try again.")

    def _forget(self, sock: socket.socket) -> None:
        if request := self._requests.pop(sock, None):
            self._hold(-len(request.data))

    def _write_error(self, sock: Any, status: int, reason: str, message: str) -> None:
        """In place of gunicorn's page of HTML."""
        self._answer(sock, status, reason, self._requests.get(sock))

    def _answer(self, sock: Any, status: int, message: str, request: RequestBuffer | None) -> None:
        self._send(sock, self._refuse(status, message, request.origin if request else ""))

    def _send(self, sock: Any, answer: bytes) -> None:
        with suppress(OSError):  # the client is gone, or does not read
            sock.setblocking(False)
            sock.send(answer)
