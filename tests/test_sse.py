"""The reader and writer of text/event-stream."""

import pytest

from chat.core import sse

STREAM = (
    b"\xef\xbb\xbf"
    b": a comment\n"
    b"data: one\n\n"
    b"event: name\rid: 7\rdata:two\rdata: \xe2\x80\xa8 lines\r\r"
    b"data\r\n\r\n"
    b"retry: 5\r\ndata:  kept space\r\n\r\n"
    b"database: no\n\n"
    b'data: {"text":"\xf0\x9f\x98\x80"}\n\n'
    b"data: [DONE]\n\n"
    b"garbage without a colon\n\n"
    b"data: never finished"
)
EVENTS = [
    b"one",
    "two\n\u2028 lines".encode(),
    b"",
    b" kept space",
    '{"text":"😀"}'.encode(),
    b"[DONE]",
]


@pytest.mark.parametrize("size", range(1, 40))
def test_pieces_of_any_size_give_the_same_events(size: int) -> None:
    decoder = sse.Decoder()
    events = []
    for at in range(0, len(STREAM), size):
        events += decoder.receive(STREAM[at : at + size])
    assert events == EVENTS


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_cut_at_every_byte_gives_the_same_events(cut: int) -> None:
    decoder = sse.Decoder()
    assert decoder.receive(STREAM[:cut]) + decoder.receive(STREAM[cut:]) == EVENTS


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_works_with_every_cut(end: bytes) -> None:
    stream = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    for cut in range(len(stream) + 1):
        decoder = sse.Decoder()
        assert decoder.receive(stream[:cut]) + decoder.receive(stream[cut:]) == [b"a\nb", b"c"]


def test_an_event_is_not_complete_before_its_blank_line() -> None:
    decoder = sse.Decoder()
    assert decoder.receive(b"data: a\n") == []
    assert decoder.receive(b"\n") == [b"a"]


def test_what_is_written_can_be_read() -> None:
    written = sse.encode("delta", b'{"text":"\\n"}', event_id=b"5a3f:4")
    assert written == b'id: 5a3f:4\nevent: delta\ndata: {"text":"\\n"}\n\n'
    assert sse.Decoder().receive(written) == [b'{"text":"\\n"}']


def _read(stream: bytes, cut: int) -> list[bytes]:
    decoder = sse.Decoder()
    return decoder.receive(stream[:cut]) + decoder.receive(stream[cut:]) + decoder.end()


LENIENT = {
    "a last event without its blank line": (
        b'data: {"a":1}\n\ndata: {"b":2}\n',
        [b'{"a":1}', b'{"b":2}'],
    ),
    "nor a line end": (b'data: {"a":1}\n\ndata: [DONE]', [b'{"a":1}', b"[DONE]"]),
    "half an event": (b'data: {"a":1}\n\ndata: {"b":', [b'{"a":1}']),
    "no blank lines at all": (
        b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n',
        [b'{"a":1}', b'{"b":2}', b"[DONE]"],
    ),
    "JSON lines": (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
    "bare JSON in between": (b'data: {"a":1}\n\n{"error":"x"}\n\n', [b'{"a":1}', b'{"error":"x"}']),
    "JSON over several lines": (
        b'[{\n "error": {\n  "code": 400 }\n}]\n',
        [b'[{\n "error": {\n  "code": 400 }\n}]'],
    ),
    "of which the first says data": (b'data: {\n "a": 1\n}\n\n', [b'{\n "a": 1\n}']),
    "an error line": (
        b'data: {"a":1}\n\nerror: {"code":400}\n\n',
        [b'{"a":1}', b'{"object":"error","error":{"code":400},"choices":null}'],
    ),
    "an event named error": (
        b"event: error\ndata: no credit\n\ndata: {}\n\n",
        [b'{"object":"error","error":"no credit","choices":null}', b"{}"],
    ),
    "an event named error without data": (b'event: error\n\ndata: {"a":1}\n\n', [b'{"a":1}']),
}


@pytest.mark.parametrize("stream, events", LENIENT.values(), ids=LENIENT)
def test_less_strict_servers_are_understood_with_every_cut(
    stream: bytes, events: list[bytes]
) -> None:
    for cut in range(len(stream) + 1):
        assert _read(stream, cut) == events
        assert _read(stream.replace(b"\n", b"\r\n"), cut) == events


def test_plain_words_are_kept_for_who_wants_to_know() -> None:
    decoder = sse.Decoder()
    assert decoder.receive(b"<html>\n<title>502</title>") + decoder.end() == []
    assert decoder.stray == b"<html>\n<title>502</title>"
    assert not decoder.framed
