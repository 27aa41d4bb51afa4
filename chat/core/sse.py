"""text/event-stream, both ways. Protocol: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Bytes in, in pieces of any size; the `data` of each complete event out.

    Lines end at CR, LF or CRLF and nowhere else (U+2028 is text). An event that the stream ends
    in the middle of is dropped, as the standard says. Names and ids are not needed here.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] = []
        self._at_start = True
        self._skip_lf = False

    def receive(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that this piece completes."""
        if self._at_start:
            piece = self._without_bom(piece)
        events: list[bytes] = []
        lines = (self._tail + self._unify_line_ends(piece)).split(b"\n")
        self._tail = lines.pop()
        for line in lines:
            if line.startswith(b"data"):
                self._add_data(line)
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events

    @property
    def pending(self) -> int:
        """Bytes of the event that is not complete yet."""
        return len(self._tail) + sum(map(len, self._data))

    def _add_data(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value[1:] if value.startswith(b" ") else value)

    def _without_bom(self, piece: bytes) -> bytes:
        start, self._tail = self._tail + piece, b""
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._tail = start
            return b""
        self._at_start = False
        return start.removeprefix(_BOM)

    def _unify_line_ends(self, piece: bytes) -> bytes:
        if self._skip_lf and piece:
            piece, self._skip_lf = piece.removeprefix(b"\n"), False
        if b"\r" not in piece:
            return piece
        # A CR at the very end has ended its line; if an LF opens the next piece, it belongs to it.
        self._skip_lf = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def encode(event: str, data: bytes, *, event_id: int | None = None) -> bytes:
    """One event; `data` is JSON, so it holds no line end."""
    name = event.encode()
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event_id, name, data)
