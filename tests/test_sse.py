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
