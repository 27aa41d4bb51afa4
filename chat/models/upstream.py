"""The model API: a call is attempts with pauses between them, then the bytes of an answer.

Only `work` (connecting, sending) and `drain` take time; `read` never blocks, so that one thread can
drive many turns. Bytes are decoded as they arrive (see `http1`). Retries as the openai SDK does.
"""

import contextlib
import email.utils
import logging
import random
import re
import socket
import ssl
import time
from typing import Protocol
from urllib.parse import urlsplit

from chat.core.errors import (
    ChatkeepError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
    too_large_at_once,
)
from chat.core.http1 import ProtocolError, ResponseDecoder, encode_post
from chat.core.refusals import describe_error
from chat.host.flow import WORK_DUE, DueAt, Readable, Wait
from chat.host.gate import Room
from chat.host.sockets import wait_readable

RETRIES = 2
_RETRIED = frozenset({408, 409, 429})
_MAX_WAIT_SECONDS = 120
_CONNECT_SECONDS = 5.0
_SEND_SECONDS = 30.0
_DRAIN_SECONDS = 0.1
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_MAX_ERROR_BYTES = 64 * 1024
_MAX_REQUESTS_BYTES = 64 * 1024 * 1024  # of all that no answer has begun to
_READ_BYTES = 65536  # more than a TLS record: a select() would not show decrypted leftovers
log = logging.getLogger("chatkeep")


class Upstream:
    """Where the model API is, and the idle connections to it (newest used first)."""

    def __init__(self, base_url: str, key: str, silence_seconds: float) -> None:
        base = urlsplit(base_url)
        self.openai_itself = base.hostname == "api.openai.com"
        self.silence_seconds = silence_seconds
        self.key = key
        self._base = base
        self._tls = ssl.create_default_context() if base.scheme == "https" else None
        self._idle: list[socket.socket] = []
        self.room = Room(_MAX_REQUESTS_BYTES, too_large_at_once)

    def call(self, body: bytes) -> "Call":
        """A call of /chat/completions; nothing is sent before its first `work`."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        path = f"{self._base.path.rstrip('/')}/chat/completions"
        if self._base.query:
            path += f"?{self._base.query}"
        host = self._base.netloc.rpartition("@")[2]
        return Call(self, encode_post(path, host, headers, body))

    def take(self) -> tuple[socket.socket, bool]:
        """(a connection, whether it has been used before). Raises OSError."""
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not wait_readable(connection, 0):
                    return connection, True
                connection.close()  # EOF, or bytes that belong to no request
        return self._connect(), False

    def give_back(self, connection: socket.socket) -> None:
        self._idle.append(connection)

    def _connect(self) -> socket.socket:
        host, tls = self._base.hostname or "", self._tls
        port = self._base.port or (443 if tls else 80)
        connection = socket.create_connection((host, port), _CONNECT_SECONDS)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = tls.wrap_socket(connection, server_hostname=host) if tls else connection
            connection.setblocking(False)
            return connection
        except OSError:
            connection.close()
            raise


class ModelCall(Protocol):
    """A call that yields the bytes of an answer, from the model API or from an agent.

    For the log: how many attempts there were, the status and request id of the last answer to one,
    and what failed last, without the server's own words, which may be a user's.
    """

    answering: bool
    attempts: int
    upstream_status: int
    upstream_failure: str

    @property
    def upstream_request_id(self) -> str: ...

    @property
    def agent(self) -> str:
        """The agent that answers; "" if none does."""

    def waits_for(self) -> Wait:
        """Readable: `read` is due then; work due: `work`, and then `read`."""

    def work(self) -> None:
        """Do what takes time, if anything is to be done."""

    def read(self) -> bytes | None:
        """What has come of the answer, at once; b"" is its end, None "nothing yet"."""

    def drain(self) -> None:
        """After the last event: leave everything in order."""

    def close(self) -> None: ...


class Call:
    """One call: `work` and `read` until `read` returns b"" or raises a ChatkeepError."""

    agent = ""

    def __init__(self, upstream: Upstream, request: bytes) -> None:
        self.answering = False
        self._upstream = upstream
        self._request = request
        upstream.room.take(len(request))
        self._connection: socket.socket | None = None
        self._readable: Readable | None = None
        self._response = ResponseDecoder()
        self._reused = False
        self._error_body = b""
        self.attempts = self.upstream_status = 0
        self.upstream_failure = ""
        self._attempt_at = self._received_at = time.monotonic()

    @property
    def upstream_request_id(self) -> str:
        """Of the last answer; what is no id is left out."""
        given = self._response.headers.get("x-request-id", "")
        return given if _REQUEST_ID.fullmatch(given) else ""

    def waits_for(self) -> Wait:
        if self._readable and not self._response.complete:
            return self._readable
        if self._connection is None and time.monotonic() < self._attempt_at:
            return DueAt(self._attempt_at)
        return WORK_DUE

    def work(self) -> None:
        """The next attempt, when it is time for one. Raises UpstreamUnavailable."""
        if self._connection or time.monotonic() < self._attempt_at:
            return
        self.attempts += 1
        self._response, self._error_body, self._reused = ResponseDecoder(), b"", False
        try:
            self._connection, self._reused = self._upstream.take()
            _send(self._connection, self._request)
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
            self.upstream_failure = f"could not be reached ({type(error).__name__})"
            self._retry(self.upstream_failure, stale=self._reused)
            return
        self._readable = Readable(self._connection.fileno())
        self._received_at = time.monotonic()

    def read(self) -> bytes | None:
        """What has come of the answer, at once; b"" is its end, None "nothing yet".

        Raises UpstreamRefused, UpstreamUnavailable and UpstreamTimeout; ProtocolError when the
        answer, once begun, breaks off.
        """
        if self._connection is None:
            return None
        if self._response.complete:
            return b""
        piece = _receive_now(self._connection)
        if piece is None:
            self._check_silence()
            return None
        self._received_at = time.monotonic()
        return self._decode(piece)

    def close(self) -> None:
        """Give the connection back if it can be used again, else close it."""
        connection, self._connection, self._readable = self._connection, None, None
        if connection is None:
            return
        if self._response.reusable:
            self._upstream.give_back(connection)
        else:
            connection.close()

    def drain(self) -> None:
        """After the last event: read to the end of the response, so the connection is reusable."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        try:
            while self._connection and not self._response.complete:
                wait_readable(self._connection, max(0.0, deadline - time.monotonic()))
                piece = _receive_now(self._connection)
                if not piece:
                    break
                self._response.receive(piece)
        except (OSError, ProtocolError):
            pass
        self.close()
        self._forget_request()

    def _decode(self, piece: bytes) -> bytes | None:
        try:
            body = self._response.receive(piece)
            if not piece:
                self._response.end()
        except ProtocolError:
            self.upstream_failure = "broke off"
            if self.answering:
                raise
            self._retry("broke off", stale=self._reused and not self._response.status)
            return None
        self.upstream_status = self._response.status
        if self._response.status == 200:
            if not self.answering:
                self._forget_request()
            self.answering = True
            return body if body or self._response.complete else None
        self._error_body += body
        if self._response.complete or len(self._error_body) > _MAX_ERROR_BYTES:
            self._fail()
        return None

    def _fail(self) -> None:
        status = self._response.status
        self.upstream_failure = f"answered {status}"
        reason = describe_error(self._error_body, self._upstream.key)
        if status in _RETRIED or status >= 500:
            self._retry(f"answered {status}: {reason}", self._response.headers.get("retry-after"))
        elif status == 401:
            log.error("the model API rejects GPT_API_KEY")
            self._raise(UpstreamRefused("The model API rejected this server's API key."))
        else:
            self._raise(UpstreamRefused(f"The model API answered {status}: {reason}"))

    def _retry(self, reason: str, retry_after: str | None = None, *, stale: bool = False) -> None:
        """Schedule the next attempt or give up; a stale connection does not count as an attempt."""
        self.close()
        if stale:
            self.attempts -= 1
            self.upstream_failure = ""
            return
        wait = _read_retry_after(retry_after)
        backoff = 0.5 * 2 ** (self.attempts - 1) * random.uniform(0.75, 1.0)
        too_long = (wait or 0) > min(_MAX_WAIT_SECONDS, self._upstream.silence_seconds)
        if self.attempts > RETRIES or too_long:
            self._raise(
                UpstreamUnavailable(f"The model API {reason}", retry_after=int((wait or 0) + 1))
            )
        self._attempt_at = time.monotonic() + (backoff if wait is None else wait)

    def _check_silence(self) -> None:
        silence = self._upstream.silence_seconds
        if time.monotonic() - self._received_at >= silence:
            self.upstream_failure = f"was silent for {silence:g} s"
            self._raise(UpstreamTimeout(f"The model API was silent for {silence:g} s."))

    def _forget_request(self) -> None:
        """It is not sent again."""
        self._upstream.room.give_back(len(self._request))
        self._request = b""

    def _raise(self, error: ChatkeepError) -> None:
        self.close()
        self._forget_request()
        raise error


def _send(sock: socket.socket, data: bytes) -> None:
    """Send what fits into the socket's buffer, nearly always all of it; wait for the rest."""
    try:
        sent = sock.send(data)
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        sent = 0
    if sent < len(data):
        sock.settimeout(_SEND_SECONDS)
        sock.sendall(data[sent:])
        sock.setblocking(False)


def _receive_now(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(_READ_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""


def _read_retry_after(value: str | None) -> float | None:
    """Seconds, or an HTTP date; None when it is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
