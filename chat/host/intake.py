"""A request gets one of the server's threads when it has come whole, and not before.

gunicorn gives a connection a thread at its first byte, and that thread waits for the rest: with as
many slow clients as there are threads, nobody else is served. But `ThreadWorker.handle` may answer
`_DEFER`, which puts a connection back to the poller of the worker. So we read what is there without
waiting, keep it beside the connection and defer, until the request is whole; then gunicorn parses
what we have read as if it had just come.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from chat.host.request_buffer import RequestBuffer, RequestRefused
from chat.host.sockets import wait_readable

_MAX_HELD_BYTES = 64 * 1024 * 1024  # of all requests of this process that are not whole yet
_READ_BYTES = 65536
_IDLE_SECONDS = 10.0
_SEND_TIMEOUT = struct.pack("@ll", 30, 0)
_FIRST_LOOK_SECONDS = 0.005  # a request nearly always follows its connection at once
_DEFER = gthread._DEFER  # noqa: SLF001  (there is no public name for it)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The bytes of an answer to what cannot be served: (status, message, its header Origin).
Refuse = Callable[[int, str, str], bytes]


class Intake:
    """Stands before the threads of a gunicorn worker (gunicorn 27, gthread)."""

    def __init__(self, max_body_bytes: int, refuse: Refuse) -> None:
        self._max_body_bytes = max_body_bytes
        self._refuse = refuse
        self._serve = gthread.ThreadWorker.handle
        self._finish = gthread.ThreadWorker.finish_request
        self._requests: dict[Any, RequestBuffer] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Have every worker that is forked from this process work so."""
        worker: Any = gthread.ThreadWorker
        worker.handle = lambda worker, conn: self.handle(worker, conn)
        worker.finish_request = lambda worker, conn, done: self.finish_request(worker, conn, done)
        util.write_error = self._write_error

    def handle(self, worker: Any, conn: Any) -> Any:
        """In one of the threads: read what is there, and go on only with a whole request."""
        request = self._requests.get(conn)
        try:
            if request is None:
                request = self._requests[conn] = self._open(conn)
            if not self._read(conn, request):
                return _DEFER
            self._give_back(conn, request)
            return self._serve(worker, conn)
        except RequestRefused as refused:
            self._answer(conn.sock, refused.status, refused.message, request)
        except OSError:
            pass  # the client is gone
        finally:
            if request is None or request.whole:
                self._forget(conn)
        return False

    def finish_request(self, worker: Any, conn: Any, done: Any) -> None:
        """On the worker's own thread: who is deferred may be silent for a while."""
        self._finish(worker, conn, done)
        if worker.pending_conns and worker.pending_conns[-1] is conn:
            conn.timeout = time.monotonic() + _IDLE_SECONDS
        else:
            self._forget(conn)

    def _open(self, conn: Any) -> RequestBuffer:
        # A client that does not read its answer holds the thread that writes it, but not for ever.
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        request = RequestBuffer(self._max_body_bytes, time.monotonic())
        if conn.parser:  # what followed the request before, on the same connection
            self._receive(request, conn.parser.unreader.take_buffered())
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
            if request.wants_continue:
                request.wants_continue = False
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

    def _forget(self, conn: Any) -> None:
        request = self._requests.pop(conn, None)
        if request:
            self._hold(-len(request.data))

    def _write_error(self, sock: Any, status: int, reason: str, message: str) -> None:
        """In place of gunicorn's page of HTML."""
        found = (request for conn, request in list(self._requests.items()) if conn.sock is sock)
        self._answer(sock, status, reason, next(found, None))

    def _answer(self, sock: Any, status: int, message: str, request: RequestBuffer | None) -> None:
        with suppress(OSError):  # the client is gone, or does not read
            sock.setblocking(False)
            sock.send(self._refuse(status, message, request.origin if request else ""))
