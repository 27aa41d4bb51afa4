"""Where one HTTP/1.1 request ends in the bytes that come. No I/O.

Protocol: RFC 9112, no more of it than that takes; whatever is contradictory or malformed counts as
whole, and the server's own parser says what is wrong with it.
"""

import re

_MAX_HEAD_BYTES = 64 * 1024
_MAX_SIZE_LINE_BYTES = 1024
_MAX_CHUNKED = 8  # times the largest body, with the sizes of its chunks
_BODY_SECONDS = 120.0
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*(?=\r\n)", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_ORIGIN = re.compile(rb"\r\norigin:[ \t]*([\x21-\x7e]{1,256})[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_BEGINS_SIZE = re.compile(rb"[0-9a-fA-F]{0,15}[ \t]*(?:;[^\r\n]*)?\r?")


class RequestRefused(Exception):
    """The request is too large or too slow; with the status to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestBuffer:
    """The bytes of one request, in pieces of any size; `whole` once its end is among them.

    `is_judged` is the reader's: whether it has asked if the body is worth waiting for.
    `wants_continue`: the client waits for "100 Continue" before it sends its body. The header that
    says so is taken out, or the server behind us would answer it as well.
    """

    def __init__(self, max_body_bytes: int, head_seconds: float, now: float) -> None:
        self.data = bytearray()
        self.whole = self.is_judged = False
        self.wants_continue = False
        self._max_body_bytes = max_body_bytes
        self._head_seconds = head_seconds
        self._began_at = now
        self._body_at = 0  # 0: the head has not ended yet
        self._ends_at: int | None = None  # None: the body is chunked
        self._chunk_at = 0
        self._chunked_bytes = 0  # in the chunks that are whole

    @property
    def has_head(self) -> bool:
        return bool(self._body_at)

    @property
    def head(self) -> bytes:
        """The head, once it has come, with the empty line at its end."""
        return bytes(self.data[: self._body_at])

    @property
    def origin(self) -> str:
        """The header Origin, as far as it has come."""
        match = _ORIGIN.search(self.data)
        return match[1].decode() if match else ""

    def receive(self, piece: bytes, now: float) -> None:
        """Take bytes, or note that time has passed (b""); raises RequestRefused."""
        self.data += piece
        if not self._body_at:
            self._read_head(len(piece))
        if self._body_at and not self.whole:
            self.whole = self._is_whole()
        limit = _BODY_SECONDS if self._body_at else self._head_seconds
        if not self.whole and now - self._began_at > limit:
            raise RequestRefused(408, "The request took too long to come.")

    def drop_body(self) -> None:
        """Keep the head alone: the body is with somebody else now."""
        del self.data[self._body_at :]

    def _read_head(self, new_bytes: int) -> None:
        end = self.data.find(b"\r\n\r\n", max(0, len(self.data) - new_bytes - 3))
        if end < 0:
            if len(self.data) > _MAX_HEAD_BYTES:
                raise RequestRefused(431, "The head of the request is too large.")
            return
        head = bytes(self.data[: end + 2])
        self._body_at = self._chunk_at = end + 4
        self._ends_at = self._end_of_body(head)
        if self._ends_at is None or self._ends_at > len(self.data):
            self._take_expectation(head)

    def _end_of_body(self, head: bytes) -> int | None:
        lengths, codings = _LENGTH.findall(head), _CODING.findall(head)
        if not codings and len(lengths) <= 1:
            return self._body_at + int(lengths[0] if lengths else 0)
        is_chunked = [coding.strip().lower() for coding in codings] == [b"chunked"]
        return None if is_chunked and not lengths else 0  # 0: contradictory, to be refused

    def _take_expectation(self, head: bytes) -> None:
        match = _EXPECT.search(head)
        if match is None:
            return
        self.wants_continue = True
        del self.data[match.start() : match.end()]
        taken = match.end() - match.start()
        self._body_at -= taken
        self._chunk_at -= taken
        self._ends_at = None if self._ends_at is None else self._ends_at - taken

    def _is_whole(self) -> bool:
        """A body that is too large is not waited for: the application refuses it by its length."""
        if self._ends_at is None:
            return self._has_last_chunk()
        too_large = self._ends_at - self._body_at > self._max_body_bytes
        return too_large or len(self.data) >= self._ends_at

    def _has_last_chunk(self) -> bool:
        while match := _CHUNK_SIZE.match(self.data, self._chunk_at):
            size = int(match[1], 16)
            if size == 0:
                return self.data.find(b"\r\n\r\n", match.end() - 2) >= 0
            if self._chunked_bytes + size > self._max_body_bytes:
                raise RequestRefused(413, f"The body has more than {self._max_body_bytes} bytes.")
            if len(self.data) < match.end() + size + 2:
                return False
            self._chunk_at = match.end() + size + 2
            self._chunked_bytes += size
            if self._chunk_at - self._body_at > _MAX_CHUNKED * (self._max_body_bytes + 1024):
                raise RequestRefused(413, "The body comes in too many small chunks.")
        line = self.data[self._chunk_at :]
        return len(line) > _MAX_SIZE_LINE_BYTES or not _BEGINS_SIZE.fullmatch(line)
