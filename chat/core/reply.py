"""The bytes of a model API's reply -> the JSON documents in it, whichever way they are sent. Pure.

What arrives decides, not what was asked for, nor what the headers claim: whole JSON or pages for a
stream, streams for none, JSON lines, and gzip are recognized by how they begin.
"""

import re
import zlib

from chat.core import sse

_SSE_BEGINS = re.compile(rb"[\s\xef\xbb\xbf]*(?:data|event|id|retry|error)?[ ]*:")
_PLAIN_BEGINS = re.compile(rb"[\s{\[dei:<]")
_ZIPPED = (b"\x1f\x8b", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_UNREADABLE = ("br", "zstd", "compress")
_ENOUGH_BYTES = 16
_NO_LIMIT = 2**60
# JSON writes a byte with six at most; around the text of a document are ids and usage.
_WRITTEN_AS, _AROUND_BYTES = 6, 64 * 1024
_MAX_UNZIPPED_BYTES = 8 * 1024 * 1024  # of one piece of 64 KB: more is no text
_ANY_ZLIB_OR_GZIP = 47
_RAW_DEFLATE = -15


class ReplyDecoder:
    """Bytes in, in pieces of any size; JSON documents out, a stream's as they come."""

    def __init__(self, *, stream: bool, max_bytes: int = _NO_LIMIT) -> None:
        """`max_bytes`: of the text that a document may hold."""
        self._unread_bytes = 0  # since the last document
        self._most_unread = max_bytes * _WRITTEN_AS + _AROUND_BYTES
        self.is_whole = False  # whether the documents were one body, not a stream
        self._stream = stream
        self._sse = sse.Decoder()
        self._body: list[bytes] = []
        self._is_json = False
        self._encoding = ""
        self._looks = True  # whether bytes go through `_unzipped`: at first, and if they are zipped
        self._start: bytes | None = b""
        self._unzip: zlib._Decompress | None = None

    def head(self, content_encoding: str) -> None:
        """The header Content-Encoding, once it is known. Only raw deflate cannot do without it."""
        self._encoding = content_encoding.strip().lower()

    @property
    def body(self) -> bytes:
        """What has come so far of a reply that is no stream."""
        return b"".join(self._body)

    @property
    def stray(self) -> bytes:
        """What was neither JSON nor an event."""
        if self._is_unreadable:
            return b"a body in the encoding " + self._encoding.encode()
        return self._sse.stray

    @property
    def _is_unreadable(self) -> bool:
        return self._encoding in _UNREADABLE and not _PLAIN_BEGINS.match(self.body)

    def receive(self, piece: bytes) -> list[bytes]:
        """The documents that this piece completes."""
        if self._looks:
            piece = self._unzipped(piece)
        self._unread_bytes += len(piece)
        documents = self._take(piece)
        if documents:
            self._unread_bytes = 0
        return documents

    @property
    def is_too_long(self) -> bool:
        """Whether more has come than a document can have."""
        return self._unread_bytes > self._most_unread

    def _take(self, piece: bytes) -> list[bytes]:
        if self._stream:
            return self._sse.receive(piece)
        self._body.append(piece)
        return [] if self._is_json else self._look()

    def end(self) -> list[bytes]:
        """The documents that the end of the reply completes."""
        documents = self.receive(self._rest())
        if not self._stream:
            self.is_whole = True
            return [] if self._is_unreadable else [self.body]
        documents += self._sse.end()
        self.is_whole = not self._sse.framed and len(documents) == 1
        return documents

    def _look(self) -> list[bytes]:
        """See whether what was not to be a stream is one."""
        body = self.body
        self._is_json = len(body.lstrip()) >= _ENOUGH_BYTES
        if not _SSE_BEGINS.match(body):
            return []
        self._stream = True
        self._body.clear()
        return self._sse.receive(body)

    def _unzipped(self, piece: bytes) -> bytes:
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < 2:
                self._start = piece
                return b""
            self._start, self._unzip = None, self._find_unzip(piece)
            self._looks = self._unzip is not None
        return self._decompress(piece) if self._unzip else piece

    def _decompress(self, piece: bytes) -> bytes:
        """What is damaged says nothing."""
        assert self._unzip is not None
        try:
            data = self._unzip.decompress(piece, _MAX_UNZIPPED_BYTES)
            while self._unzip.eof and self._unzip.unused_data:  # some zip each piece on its own
                rest, self._unzip = self._unzip.unused_data, zlib.decompressobj(_ANY_ZLIB_OR_GZIP)
                data += self._unzip.decompress(rest)
            return data
        except zlib.error:
            return b""

    def _find_unzip(self, start: bytes) -> "zlib._Decompress | None":
        if start.startswith(_ZIPPED):
            return zlib.decompressobj(_ANY_ZLIB_OR_GZIP)
        if self._encoding == "deflate" and not _PLAIN_BEGINS.match(start):
            return zlib.decompressobj(_RAW_DEFLATE)
        return None

    def _rest(self) -> bytes:
        """What was held back for want of a second byte, or inside of zlib."""
        start, self._start, self._looks = self._start, None, False
        try:
            return start or (self._unzip.flush() if self._unzip else b"")
        except zlib.error:
            return b""


def read_documents(body: bytes) -> tuple[list[bytes], bytes]:
    """The documents of a reply that is all there, and what came beside them."""
    decoder = ReplyDecoder(stream=False)
    documents = decoder.receive(body) + decoder.end()
    return documents, decoder.stray
