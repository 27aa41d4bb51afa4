"""One call of the model API: attempts with pauses between them, then the bytes of an answer.

Only `work` (connecting) and `drain` take time; `read` sends and receives what is possible at once, so
that one thread can drive many turns. Bytes are decoded as they arrive (see `http1`). A message is
sent at most three times, whatever happens.
"""

import logging
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from chat.core.completions import ChatRequest, encode_request
from chat.core.errors import (
    ChatkeepError,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chat.core.http1 import ProtocolError, ResponseDecoder
from chat.core.quirks import learn
from chat.core.refusals import describe_error, find_code, sanitize
from chat.host.flow import WORK_DUE, DueAt, Readable, Wait
from chat.host.sockets import wait_readable
from chat.models.upstream import retries
from chat.models.upstream.connections import receive_now, send_now

if TYPE_CHECKING:
    from chat.models.upstream.upstream import Upstream

MAX_SENDS = 3
_DRAIN_SECONDS = 0.1
_MAX_ERROR_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_NOTHING = memoryview(b"")
log = logging.getLogger("chatkeep")


class Call:
    """One call: `work` and `read` until `read` returns b"" or raises a ChatkeepError."""

    agent = ""

    def __init__(self, upstream: "Upstream", request: ChatRequest) -> None:
        self.answering = False
        self._upstream = upstream
        self._request = request
        self._quirks = upstream.quirks_of(request.model)
        self._first_body = encode_request(request, self._quirks)
        self._held_bytes = len(self._first_body)
        upstream.room.take(self._held_bytes)
        self._path = upstream.address.path
        self._connection: socket.socket | None = None
        self._sendable = self._readable = Readable(-1)
        self._response = ResponseDecoder()
        self._unsent = _NOTHING
        self._reused = self._is_sent = self._needs_fresh = self._redirected = False
        self._error_body = b""
        self._sends = self.attempts = self.upstream_status = 0
        self.upstream_failure = ""
        self._attempt_at = self._progress_at = time.monotonic()

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def upstream_request_id(self) -> str:
        """Of the last answer; what is no id is left out."""
        return retries.request_id(self._response.headers)

    def waits_for(self) -> Wait:
        if self._connection and not self._response.complete:
            return self._sendable if self._unsent else self._readable
        if self._connection is None and time.monotonic() < self._attempt_at:
            return DueAt(self._attempt_at)
        return WORK_DUE

    def work(self) -> None:
        """The next attempt, when it is time for one. Raises UpstreamUnavailable."""
        if self._connection or time.monotonic() < self._attempt_at:
            return
        self._sends += 1
        self.attempts += 1
        self._response, self._error_body = ResponseDecoder(), b""
        self._reused = self._is_sent = False
        upstream = self._upstream
        try:
            request = upstream.encode(self._path, self._take_body())
            self._connection, self._reused = upstream.connections.take(fresh=self._needs_fresh)
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
            log.warning("%s could not be reached: %s", upstream.address.host, error)
            self.upstream_failure = f"could not be reached ({type(error).__name__})"
            self._retry(self.upstream_failure)
            return
        fd = self._connection.fileno()
        self._readable, self._sendable = Readable(fd), Readable(fd, or_writable=True)
        self._unsent = memoryview(request)
        self._progress_at = time.monotonic()
        self._send(self._connection)

    def read(self) -> bytes | None:
        """What has come of the answer, at once; b"" is its end, None "nothing yet".

        Raises UpstreamRefused, UpstreamUnavailable and UpstreamTimeout; ProtocolError when the
        answer, once begun, breaks off.
        """
        if self._connection is None:
            return None
        if self._response.complete:
            return b""
        if self._unsent:
            self._send(self._connection)
        piece = receive_now(self._connection)
        if piece is None:
            self._check_silence()
            return None
        self._progress_at = time.monotonic()
        return self._decode(piece)

    def _take_body(self) -> bytes:
        """Written anew for another attempt: while it is under way, there is one copy of a prompt."""
        body, self._first_body = self._first_body, b""
        return body or encode_request(self._request, self._quirks)

    def close(self) -> None:
        """Give the connection back if it can be used again, else close it; nothing is sent again."""
        self._disconnect()
        self._let_go()

    def _let_go(self) -> None:
        """Of the request: an answer has begun, or none will."""
        self._upstream.room.give_back(self._held_bytes)
        self._held_bytes, self._first_body = 0, b""
        self._request = replace(self._request, messages=[])

    def _disconnect(self) -> None:
        connection, self._connection, self._unsent = self._connection, None, _NOTHING
        if connection is None:
            return
        if self._response.reusable and self._is_sent:
            self._upstream.connections.give_back(connection)
        else:
            connection.close()

    def drain(self) -> None:
        """After the last event: read to the end of the response, so the connection is reusable."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        try:
            while self._connection and self._is_sent and not self._response.complete:
                wait_readable(self._connection, max(0.0, deadline - time.monotonic()))
                piece = receive_now(self._connection)
                if not piece:
                    break
                self._response.receive(piece)
        except (OSError, ProtocolError):
            pass
        self.close()

    def _send(self, connection: socket.socket) -> None:
        """Send what fits. When that fails, a refusal may have come before: `read` will tell."""
        try:
            sent = send_now(connection, self._unsent)
        except OSError:
            self._unsent = _NOTHING
            return
        if sent:
            self._progress_at = time.monotonic()
            self._unsent = self._unsent[sent:]
        self._is_sent = not self._unsent

    def _decode(self, piece: bytes) -> bytes | None:
        try:
            body = self._response.receive(piece)
            if not piece:
                self._response.end()
        except ProtocolError:
            self.upstream_failure = "broke off"
            if self.answering:
                raise
            if self._response.status >= 300:  # whatever has come of the refusal
                self._fail()
            else:
                self._retry("broke off", stale=self._reused and not self._response.status)
            return None
        self.upstream_status = self._response.status
        if self.answering or 200 <= self._response.status < 300:
            if not self.answering:
                self._begin_answer()
            return body if body or self._response.complete else None
        self._error_body += body
        if self._response.complete or len(self._error_body) > _MAX_ERROR_BYTES:
            self._fail()
        return None

    def _begin_answer(self) -> None:
        self.answering = True
        self._let_go()
        model = self._request.model
        if self._quirks != self._upstream.quirks_of(model):
            self._upstream.remember(model, self._quirks)

    def _fail(self) -> None:
        """The response is a refusal: adapt, retry, or raise what the client is shown."""
        status, headers, body = self._response.status, self._response.headers, self._error_body
        upstream, self.upstream_failure = self._upstream, f"answered {status}"
        log.warning(
            "%s answered %d (%s, %s)",
            upstream.address.host,
            status,
            sanitize(find_code(body) or "no code", *upstream.secrets),
            sanitize(self.upstream_request_id or "no id", *upstream.secrets),
        )
        if status in _REDIRECTS:
            self._redirect(status, headers.get("location", ""))
        elif status in (400, 422) and self._adapt(body):
            self._again()
        elif retries.is_out_of_quota(status, body):
            log.error(
                "the quota or credit at %s is used up; see its billing page", upstream.address.host
            )
            self._raise(UpstreamQuota())
        elif retries.is_retried(status, headers):
            reason = describe_error(body, *upstream.secrets)
            self._retry(f"answered {status}: {reason}", retries.read_wait(headers, time.time()))
        else:
            self._refuse(status, body)

    def _refuse(self, status: int, body: bytes) -> None:
        upstream = self._upstream
        if status == 401:
            upstream.reject_key()
            log.error("%s rejects this server's API key", upstream.address.host)
            self._raise(UpstreamRefused("The model API rejected this server's API key."))
        text = f"The model API answered {status}: {describe_error(body, *upstream.secrets)}"
        if status in (404, 405) and upstream.address.hint:
            log.error("%s", upstream.address.hint)
            text += f" ({upstream.address.hint})"
        self._raise(UpstreamRefused(text))

    def _redirect(self, status: int, location: str) -> None:
        """Follow one redirect on the same origin: to another one, the key must not go."""
        path = self._upstream.address.redirect(location) if status in _KEEP_METHOD else None
        if path is None or self._redirected or self._sends >= MAX_SENDS:
            where = sanitize(location, *self._upstream.secrets) if location else "nowhere"
            self._raise(
                UpstreamRefused(f"The model API answered {status}: it redirects to {where}")
            )
        else:
            self._path, self._redirected = path, True
            self._again()

    def _adapt(self, refusal: bytes) -> bool:
        """Whether the request can be written in another way, which this refusal asks for."""
        quirks = learn(self._quirks, encode_request(self._request, self._quirks), refusal)
        if quirks == self._quirks or self._sends >= MAX_SENDS:
            return False
        log.warning("%s is asked again, with %s", self._request.model, quirks)
        self._quirks = quirks
        return True

    def _again(self) -> None:
        """Another attempt, at once."""
        self._disconnect()
        self._attempt_at = time.monotonic()

    def _retry(self, reason: str, wait: float | None = None, *, stale: bool = False) -> None:
        """Schedule the next attempt or give up; after a stale connection, on a fresh one at once."""
        self._disconnect()
        if stale and not self._needs_fresh and self._sends < MAX_SENDS:
            self._needs_fresh = True
            self.attempts -= 1
            self.upstream_failure = ""
            return
        too_long = (wait or 0) > min(retries.MAX_WAIT_SECONDS, self._upstream.silence_seconds)
        if self._sends >= MAX_SENDS or too_long:
            self._raise(
                UpstreamUnavailable(f"The model API {reason}", retry_after=int((wait or 0) + 1))
            )
        pause = retries.pause_after(self._sends) if wait is None else wait
        self._attempt_at = time.monotonic() + pause

    def _check_silence(self) -> None:
        silence = self._upstream.silence_seconds
        if time.monotonic() - self._progress_at < silence:
            return
        if self._response.status >= 300:
            self._fail()  # a refusal whose end does not come
        else:
            self.upstream_failure = f"was silent for {silence:g} s"
            self._raise(UpstreamTimeout(f"The model API was silent for {silence:g} s."))

    def _raise(self, error: ChatkeepError) -> None:
        self.close()
        raise error
