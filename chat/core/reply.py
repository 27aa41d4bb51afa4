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
_ANY_ZLIB_OR_GZIP = 47
_RAW_DEFLATE = -15


class ReplyDecoder:
    """Bytes in, in pieces of any size; JSON documents out, a stream's as they come."""

    def __init__(self, *, stream: bool) -> None:
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
            data = self._unzip.decompress(piece)
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
