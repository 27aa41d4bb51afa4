"""The client's half of HTTP/1.1 without any I/O. Protocol: RFC 9112.

Sans I/O, because a turn must never block on the model: whoever drives the socket feeds the decoder
with the bytes that are there. Why not a library, measured in one run (Python 3.11, microseconds):

                                        here    httptools (llhttp, C)    h11
    a streamed chunk of 269 bytes       0.76    0.18                     5.0
    the same, with its SSE and JSON     2.6     1.9                      6.9
    a response that is not streamed     5.0     4.7                      46
    import, milliseconds                0.23    0.69

A chunk costs 15 to 60 microseconds on its whole way, so httptools would save 1 to 4 % of it. It
would need a framing of its own beside it all the same (it does not expose llhttp_finish, so a body
that ends with the connection has to be distinguished here), refuses what odd servers send (chunks
with bare LFs, a Content-Length twice or beside chunks), and is one more binary to pin.
"""

from collections.abc import Callable, Mapping

_MAX_HEAD_BYTES = 64 * 1024


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1, or broke off inside a response."""


def encode_post(path: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole POST request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class ResponseDecoder:
    """Bytes of one response in, in pieces of any size; bytes of its body out.

    `status` is 0 until the head has come (1xx heads are skipped); `complete`: the body is whole.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._keep_alive = True
        self._step: Callable[[list[bytes]], bool] = self._read_head

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request: nothing came after the response."""
        return self.complete and self._keep_alive and self._at == len(self._buffer)

    def receive(self, piece: bytes) -> bytes:
        """Return the part of the body that came with this piece."""
        self._buffer = self._buffer[self._at :] + piece if self._at < len(self._buffer) else piece
        self._at = 0
        body: list[bytes] = []
        while not self.complete and self._step(body):
            pass
        return b"".join(body)

    def end(self) -> None:
        """The peer has closed; only a body that has no length of its own may end like this."""
        if self._step == self._read_to_end:
            self.complete = True
        if not self.complete:
            raise ProtocolError("the connection was closed inside a response")

    def _read_head(self, body: list[bytes]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if end < 0:
            self._limit(_MAX_HEAD_BYTES)
            return False
        lines = self._buffer[self._at : end].decode("latin-1").split("\r\n")
        self._at = end + 4
        version, status = _read_status_line(lines[0])
        if status >= 200:  # a 1xx head announces the real one
            self.status = status
            self.headers = _read_headers(lines[1:])
            self._choose_framing(version)
        return True

    def _choose_framing(self, version: str) -> None:
        connection = self.headers.get("connection", "").lower()
        self._keep_alive = version == "HTTP/1.1" and "close" not in connection
        if self.status in (204, 304):
            self.complete = True
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._step = self._read_chunks
        elif "content-length" in self.headers:
            self._left = _number(self.headers["content-length"], 10)
            self._step = self._read_length
            self.complete = self._left == 0
        else:
            self._keep_alive = False
            self._step = self._read_to_end

    def _read_to_end(self, body: list[bytes]) -> bool:
        body.append(self._buffer[self._at :])
        self._at = len(self._buffer)
        return False

    def _read_length(self, body: list[bytes]) -> bool:
        self._take(body)
        self.complete = self._left == 0
        return False

    def _read_chunks(self, body: list[bytes]) -> bool:
        """All that the buffer holds, in one loop: this is what every streamed chunk runs through."""
        while (line := self._find_line()) is not None:
            size = _number(line.partition(b";")[0].strip(), 16)
            if size == 0:
                self._step = self._read_trailer
                return True
            end = self._at + size
            if self._buffer[end : end + 2] != b"\r\n":  # not whole yet, or an odd line end
                self._left, self._step = size, self._read_chunk
                return True
            body.append(self._buffer[self._at : end])
            self._at = end + 2
        return False

    def _read_chunk(self, body: list[bytes]) -> bool:
        self._take(body)
        if self._left == 0:
            self._step = self._read_chunk_end
        return self._left == 0

    def _read_chunk_end(self, body: list[bytes]) -> bool:
        line = self._find_line()
        if line:
            raise ProtocolError("a chunk is longer than its size")
        if line is not None:
            self._step = self._read_chunks
        return line is not None

    def _read_trailer(self, body: list[bytes]) -> bool:
        line = self._find_line()
        self.complete = line == b""
        return bool(line)

    def _take(self, body: list[bytes]) -> None:
        piece = self._buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        body.append(piece)

    def _find_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._at)
        if end < 0:
            self._limit(_MAX_HEAD_BYTES)
            return None
        line = self._buffer[self._at : end].removesuffix(b"\r")
        self._at = end + 1
        return line

    def _limit(self, most: int) -> None:
        if len(self._buffer) - self._at > most:
            raise ProtocolError("a line of the response has no end")


def _read_status_line(line: str) -> tuple[str, int]:
    version, _, rest = line.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ProtocolError("the answer is not HTTP/1.1")
    return version, _number(rest[:3], 10)


def _read_headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _number(digits: str | bytes, base: int) -> int:
    # int() alone would take "+5", "-5" and "1_0" as well.
    if not digits.isalnum():
        raise ProtocolError("a size in the response is not a number")
    try:
        return int(digits, base)
    except ValueError as error:
        raise ProtocolError("a size in the response is not a number") from error
