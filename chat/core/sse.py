"""text/event-stream, both ways. Protocol: https://html.spec.whatwg.org/multipage/server-sent-events.html

Reading is more lenient than the standard, because model servers are less strict: JSON without
`data:` counts as an event, an `error:` line and an event named `error` as `{"error": ...}`.
"""

import msgspec

from chat.core.lenient_json import decode_all

_BOM = b"\xef\xbb\xbf"
_MAX_STRAY_BYTES = 8 * 1024 * 1024


class Decoder:
    """Bytes in, in pieces of any size; the `data` of each complete event out.

    Lines end at CR, LF or CRLF and nowhere else (U+2028 is text). Ids are not needed here.
    """

    def __init__(self) -> None:
        self.framed = False  # whether there was any event as the standard wants it
        self._start = b""
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._stray: list[bytes] = []
        self._stray_bytes = 0
        self._at_start = True
        self._skip_lf = False
        self._is_error = False

    @property
    def stray(self) -> bytes:
        """What came outside of any event: a server's plain words, or an HTML page."""
        return b"\n".join(self._stray)

    def receive(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that this piece completes."""
        if self._at_start:
            piece = self._without_bom(piece)
        if self._skip_lf or b"\r" in piece:
            piece = self._unify_line_ends(piece)
        if self._tail:
            self._tail.append(piece)
            if b"\n" not in piece:
                return []
            piece = b"".join(self._tail)
        lines = piece.split(b"\n")
        tail = lines.pop()
        self._tail = [tail] if tail else []
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data: "):
                if self._data:
                    self._end_if_whole(line[6:], events)
                self._data.append(line[6:])
            elif line:
                self._add_line(line, events)
            elif self._data:
                events.append(self._take_event())
            else:
                self._is_error = False
        return events

    def end(self) -> list[bytes]:
        """The events that the stream ends in the middle of, if they are whole all the same.

        The standard drops them; but many a server forgets the last blank line.
        """
        self._at_start = self._skip_lf = False
        events = self.receive(self._start + b"\n\n")
        self._start = b""
        events = [data for data in events if _holds_json(data)]
        stray = self.stray
        if stray and _holds_json(stray):
            self._stray.clear()
            events.append(stray)
        return events

    def _add_line(self, line: bytes, events: list[bytes]) -> None:
        name, colon, value = line.partition(b":")
        name, value = name.strip(), value.removeprefix(b" ")
        if name == b"data":
            self._end_if_whole(value, events)
            self._data.append(value)
        elif name == b"event":
            self._is_error = value.strip() == b"error"
        elif name == b"error" and colon:
            if self._data:
                events.append(self._take_event())
            events.append(_as_error(value))
        elif name and name not in (b"id", b"retry"):
            self._add_stray(line, events)

    def _end_if_whole(self, next_value: bytes, events: list[bytes]) -> None:
        """Nothing can follow a whole JSON value: a blank line was forgotten before the next one."""
        if not self._data or next_value[:1] not in (b"{", b"["):
            return
        last = self._data[-1].rstrip()
        if last.endswith((b"}", b"]")) and decode_all(last).is_whole:
            events.append(self._take_event())

    def _add_stray(self, line: bytes, events: list[bytes]) -> None:
        if self._data:  # JSON over several lines of which only the first says `data:`
            self._data.append(line)
            return
        if self._stray_bytes > _MAX_STRAY_BYTES:
            return
        self._stray.append(line)
        self._stray_bytes += len(line)
        if line.rstrip()[-1:] in (b"}", b"]"):
            self._take_stray_json(line, events)

    def _take_stray_json(self, line: bytes, events: list[bytes]) -> None:
        for stray in (line, self.stray) if line[:1] in (b"}", b"]") else (line,):
            if decode_all(stray).is_whole:
                self._stray.clear()
                self._stray_bytes = 0
                events.append(stray)
                return

    def _take_event(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self.framed, self._data = True, []
        if self._is_error:
            self._is_error, data = False, _as_error(data)
        return data

    def _without_bom(self, piece: bytes) -> bytes:
        start, self._start = self._start + piece, b""
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
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


def _holds_json(data: bytes) -> bool:
    found = decode_all(data)
    return found.done or bool(found.values)


def _as_error(value: bytes) -> bytes:
    """An error that the frame tells of, not the JSON in it, as JSON."""
    found = decode_all(value)
    reason = found.values[0] if found.values else value.decode("utf-8", "replace").strip()
    said = reason.get("choices") if isinstance(reason, dict) else None
    return msgspec.json.encode({"object": "error", "error": reason, "choices": said})


def encode(event: str, data: bytes, *, event_id: bytes | None = None) -> bytes:
    """One event; `data` is JSON, so it holds no line end."""
    name = event.encode()
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, name, data)
