"""The pure machine of a turn: what is an end, what is a cut, what is stored."""

import json

import pytest

from chat.core.answer import Answer
from chat.core.errors import UpstreamRefused, UpstreamTimeout
from chat.core.events import Delta, KeepAlive, Reasoning, StopReason
from chat.core.messages import Usage


def _turn(*, stream: bool = True, max_bytes: int = 2**20, continuations: int = 0) -> Answer:
    return Answer(
        stream=stream,
        keepalive_seconds=10,
        now=100.0,
        max_bytes=max_bytes,
        continuations=continuations,
    )


def _chunk(text: str | None = None, finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: %b\n\n" % json.dumps({"choices": [choice], **more}, ensure_ascii=False).encode()


USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def test_deltas_carry_the_offset_in_code_points() -> None:
    turn = _turn()
    assert turn.receive(_chunk("Hi ") + _chunk("😀é"), 101) == [Delta("Hi ", 3), Delta("😀é", 5)]
    assert turn.text == "Hi 😀é"


def test_every_cut_of_the_bytes_gives_the_same_text() -> None:
    stream = (
        _chunk("a😀") + _chunk("\n\u2028") + _chunk("", "stop") + USAGE + DONE + b"trailing garbage"
    )
    for cut in range(len(stream) + 1):
        turn = _turn()
        turn.receive(stream[:cut], 101)
        turn.receive(stream[cut:], 102)
        assert (turn.text, turn.ending) == ("a😀\n\u2028", "completed")
        assert turn.usage == Usage(3, 2, 5)


def test_done_is_an_end_even_without_a_finish_reason() -> None:
    turn = _turn()
    turn.receive(_chunk("x") + DONE, 101)
    assert (turn.ending, turn.stored, turn.finish_reason) == ("completed", True, None)


def test_a_finish_reason_is_an_end_even_without_done() -> None:
    turn = _turn()
    turn.receive(_chunk("x", "length"), 101)
    before = turn.ending
    turn.upstream_ended()
    assert (before, turn.ending) == (None, "completed"), "the usage may still come"
    assert turn.finish_reason == "length"


def test_a_connection_lost_after_the_finish_reason_loses_nothing() -> None:
    turn = _turn()
    turn.receive(_chunk("x", "stop"), 101)
    turn.fail(UpstreamRefused("broke off"))
    assert (turn.ending, turn.error) == ("completed", None)


def test_neither_is_a_cut_and_what_was_said_is_kept() -> None:
    turn = _turn()
    turn.receive(_chunk("half an ans"), 101)
    turn.upstream_ended()
    assert (turn.ending, turn.stored, turn.text) == ("failed", True, "half an ans")
    assert isinstance(turn.error, UpstreamRefused)


def test_a_failure_before_the_first_character_leaves_nothing() -> None:
    turn = _turn()
    turn.receive(_chunk("") + b": comment\n\n", 101)
    turn.fail(UpstreamTimeout("silent"))
    assert (turn.ending, turn.stored) == ("failed", False)


def test_the_first_ending_counts() -> None:
    turn = _turn()
    turn.receive(_chunk("x") + DONE + _chunk("y"), 101)
    turn.fail(UpstreamTimeout("silent"))
    assert turn.receive(_chunk("z"), 102) == []
    assert (turn.ending, turn.text, turn.error) == ("completed", "x", None)


@pytest.mark.parametrize("data", [b"{broken", b"[" * 5000, b'{"choices":[{"delta":{"content":"ab'])
def test_an_answer_with_a_gap_is_incomplete_but_keeps_all_its_words(data: bytes) -> None:
    turn = _turn()
    turn.receive(_chunk("x") + b"data: %b\n\n" % data + _chunk("y", "stop") + DONE, 101)
    assert (turn.ending, turn.stored, turn.text) == ("failed", True, "xy")
    assert turn.error and "cannot be read" in turn.error.message


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"5", b"\xff", b"ping", b'{"choices":"x"}', b"{}"]
)
def test_what_says_nothing_does_no_harm(data: bytes) -> None:
    turn = _turn()
    turn.receive(_chunk("x") + b"data: %b\n\n" % data + _chunk("y", "stop") + DONE, 101)
    ended: object = (turn.ending, turn.text)
    assert ended == ("completed", "xy")


def test_an_error_inside_the_stream_is_told() -> None:
    turn = _turn()
    turn.receive(_chunk("x") + b'data: {"error":{"message":"overloaded"}}\n\n', 101)
    assert turn.error and "overloaded" in turn.error.message


def test_half_an_emoji_does_no_harm() -> None:
    turn = _turn()
    turn.receive(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + DONE, 101)
    assert (turn.text, turn.ending) == ("a\ufffd", "completed")


def test_two_halves_of_an_emoji_are_joined() -> None:
    turn = _turn()
    turn.receive(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n', 101)
    assert turn.text == "a"
    turn.receive(b'data: {"choices":[{"delta":{"content":"\\ude00b"}}]}\n\n' + DONE, 101)
    assert (turn.text, turn.offset) == ("a😀b", 3)


def test_a_finish_reason_on_an_open_connection_ends_the_turn_after_a_second() -> None:
    turn = _turn()
    turn.receive(_chunk("x", "stop"), 101.0)
    assert turn.tick(101.5) == [] and not turn.ending
    turn.receive(USAGE, 101.6)
    turn.receive(b": ping\n\n", 101.9)
    assert not turn.ending
    turn.receive(b": ping\n\n", 102.0)
    ended: object = (turn.ending, turn.usage)
    assert ended == ("completed", Usage(3, 2, 5))


def test_words_after_the_finish_reason_are_words_too() -> None:
    turn = _turn()
    turn.receive(_chunk("x", "stop"), 101.0)
    turn.receive(_chunk("y"), 101.9)
    turn.tick(102.5)
    assert not turn.ending
    turn.tick(102.9)
    ended: object = (turn.ending, turn.text)
    assert ended == ("completed", "xy")


def test_thinking_is_told_only_to_those_who_ask() -> None:
    stream = (
        _chunk("<th") + _chunk("ink>secret") + _chunk(" plan</think>\n\nHel") + _chunk("lo") + DONE
    )
    for tells, events in [
        (False, [Delta("Hel", 3), Delta("lo", 5)]),
        (True, [Reasoning("secret"), Reasoning(" plan"), Delta("Hel", 3), Delta("lo", 5)]),
    ]:
        turn = Answer(stream=True, keepalive_seconds=10, now=100.0, tells_reasoning=tells)
        assert turn.receive(stream, 101) == events
        assert (turn.text, turn.reasoning, turn.ending) == ("Hello", "secret plan", "completed")


def test_keep_alives_go_out_while_the_model_only_thinks() -> None:
    turn = _turn()
    thinking = b'data: {"choices":[{"delta":{"reasoning_content":"hmm"}}]}\n\n'
    assert turn.receive(thinking, 109) == []
    assert turn.receive(thinking, 110) == [KeepAlive()]


def test_nothing_is_gone_on_from_nothing() -> None:
    turn = Answer(stream=True, keepalive_seconds=10, now=100.0, continuations=5)
    turn.receive(_chunk(None, "length") + DONE, 101)
    assert (turn.goes_on, turn.ending, turn.stored, turn.text) == (False, "completed", True, "")
    turn = Answer(stream=True, keepalive_seconds=10, now=100.0, continuations=5)
    turn.receive(_chunk("one ", "length") + DONE, 101)
    assert turn.goes_on
    turn.go_on()
    turn.receive(_chunk(None, "length") + DONE, 102)
    assert (turn.goes_on, turn.ending, turn.text) == (False, "completed", "one ")


def test_a_refusal_is_an_answer_too() -> None:
    turn = _turn()
    turn.receive(b'data: {"choices":[{"delta":{"content":null,"refusal":"No."}}]}\n\n' + DONE, 101)
    assert turn.text == "No."


def test_silence_is_filled_with_keep_alives() -> None:
    turn = _turn()
    assert turn.tick(105) == []
    assert turn.tick(110) == [KeepAlive()]
    assert turn.tick(111) == []
    turn.receive(_chunk("x"), 115)
    assert turn.tick(121) == []
    assert turn.tick(125) == [KeepAlive()]


def test_an_unstreamed_answer_is_read_at_its_end() -> None:
    turn = _turn(stream=False)
    message = {"role": "assistant", "content": "Hello"}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    assert turn.receive(body[:9], 101) == turn.receive(body[9:], 101) == []
    turn.upstream_ended()
    assert (turn.text, turn.ending, turn.finish_reason) == ("Hello", "completed", "stop")


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b'{"choices":[]}', b'{"choices":[{}]}'])
def test_an_unstreamed_answer_that_is_none_stores_nothing(body: bytes) -> None:
    turn = _turn(stream=False)
    turn.receive(body, 101)
    turn.upstream_ended()
    assert turn.ending == "failed" and not turn.stored and turn.error


def test_a_stop_keeps_what_was_said_and_a_rollback_does_not() -> None:
    cases: list[tuple[StopReason, str, bool]] = [
        ("cancelled", "cancelled", True),
        ("interrupted", "interrupted", True),
        ("rollback", "failed", False),
    ]
    for reason, ending, stored in cases:
        turn = _turn()
        turn.receive(_chunk("x"), 101)
        turn.stop(reason)
        turn.receive(_chunk("y") + DONE, 102)
        assert (turn.ending, turn.stored, turn.text) == (ending, stored, "x")


def test_what_came_whole_counts_though_the_connection_broke() -> None:
    turn = _turn()
    turn.receive(_chunk("x") + _chunk("y", "stop")[:-1], 101)
    assert turn.upstream_ended(cut=True) == [Delta("y", 2)]
    ended: object = (turn.ending, turn.text)
    assert ended == ("completed", "xy")
    body = json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode()
    for got, ending in [(body, "completed"), (body[:-4], "failed")]:
        turn = _turn(stream=False)
        turn.receive(got, 101)
        turn.upstream_ended(cut=True)
        assert (turn.ending, turn.stored) == (ending, ending == "completed")
        assert turn.error is None or "broke off" in turn.error.message


def test_a_stream_over_the_limit_is_complete_where_it_is_full() -> None:
    turn = _turn(max_bytes=5, continuations=5)
    events = turn.receive(_chunk("ab") + _chunk("éé") + _chunk("c") + DONE, 101)
    assert events == [Delta("ab", 2), Delta("é", 3)]
    assert (turn.ending, turn.finish_reason, turn.was_cut) == ("completed", "length", True)
    assert turn.text == "abé" and not turn.goes_on


@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_an_unstreamed_answer_over_the_limit_is_not_read_to_its_end(ensure_ascii: bool) -> None:
    text = 'é"\\\n😀' * 100_000
    body = json.dumps({"choices": [{"message": {"content": text}}]}, ensure_ascii=ensure_ascii)
    turn = _turn(stream=False, max_bytes=1000)
    for at in range(0, len(body.encode()), 1001):
        turn.receive(body.encode()[at : at + 1001], 101)
        if turn.ending:
            break
    assert at < 200_000 and text.startswith(turn.text) and 990 < len(turn.text.encode()) <= 1000
    assert (turn.ending, turn.finish_reason) == ("completed", "length")
    turn.upstream_ended()
    assert text.startswith(turn.text) and turn.stored


def test_what_is_not_text_does_not_grow_without_end() -> None:
    for stream, junk in ((False, b'{"x": "'), (True, b'data: {"x": "'), (True, b"data: x\n")):
        turn = _turn(stream=stream, max_bytes=1000)
        for _ in range(1000):
            if not turn.ending:
                turn.receive(junk * 100, 101)
        assert turn.ending == "failed" and isinstance(turn.error, UpstreamRefused)
