"""History -> prompt."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.core.completions import PromptMessage
from chat.core.errors import PromptTooLong
from chat.core.prompt import build, estimate_tokens


def _stored(role: str, content: object) -> bytes:
    return msgspec.json.encode({"id": "msg_x", "role": role, "content": content, "model": "m"})


def _turns(count: int, size: int = 40) -> list[bytes]:
    texts = [f"{n:>{size}}" for n in range(2 * count)]
    return [_stored(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]


NEW = msgspec.Raw(b'"and now?"')


def _plain(messages: list[PromptMessage]) -> list[tuple[str, object]]:
    return [(m.role, msgspec.json.decode(m.content)) for m in messages]


def test_everything_is_replayed_while_it_fits() -> None:
    prompt = build("be kind", _turns(2, 1), NEW, start=6, max_tokens=1000, max_bytes=10**7)
    assert prompt.start == 6
    assert _plain(prompt.messages) == [
        ("system", "be kind"),
        ("user", "0"),
        ("assistant", "1"),
        ("user", "2"),
        ("assistant", "3"),
        ("user", "and now?"),
    ]


def test_without_instructions_there_is_no_system_message() -> None:
    assert _plain(build("", [], NEW, start=0, max_tokens=10, max_bytes=10**7).messages) == [
        ("user", "and now?")
    ]


def test_content_parts_are_passed_on_as_they_are() -> None:
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "x"}},
    ]
    prompt = build(
        "",
        [_stored("user", parts), _stored("assistant", "a cat")],
        NEW,
        start=0,
        max_tokens=5000,
        max_bytes=10**7,
    )
    assert _plain(prompt.messages)[0] == ("user", parts)


def test_an_attachment_is_not_counted_by_its_bytes() -> None:
    big = [{"type": "image_url", "image_url": {"url": "data:" + "x" * 1_000_000}}]
    message = PromptMessage("user", msgspec.Raw(msgspec.json.encode(big)))
    assert estimate_tokens(message) < 2000


def test_a_message_that_does_not_fit_alone_is_refused() -> None:
    with pytest.raises(PromptTooLong) as caught:
        build(
            "", [], msgspec.Raw(b'"%b"' % (b"x" * 4000)), start=0, max_tokens=900, max_bytes=10**7
        )
    assert caught.value.param == "content"


@given(st.integers(0, 60), st.integers(30, 900), st.integers(0, 100))
def test_the_newest_whole_turns_are_kept(count: int, room: int, start: int) -> None:
    history = _turns(count)
    prompt = build("", history, NEW, start=start, max_tokens=room, max_bytes=10**7)
    dropped = prompt.start - start
    assert dropped % 2 == 0, "a turn is never cut in half"
    assert _plain(prompt.messages[:-1]) == _plain(
        [msgspec.json.decode(m, type=PromptMessage) for m in history[dropped:]]
    )
    assert prompt.tokens == sum(map(estimate_tokens, prompt.messages)) <= room
    if dropped:  # cut with slack, so that the prefix stays the same for some turns
        assert prompt.tokens <= room * 3 // 4 + 1 or dropped == len(history)
    else:
        assert dropped == 0


NOTHING = ["", " \n"]


@pytest.mark.parametrize("nothing", NOTHING)
def test_an_empty_answer_is_left_out_and_what_was_asked_is_not_lost(nothing: str) -> None:
    history = [_stored("user", "one"), _stored("assistant", nothing), *_turns(1, 1)]
    assert _plain(
        build("be kind", history, NEW, start=0, max_tokens=1000, max_bytes=10**7).messages
    ) == [
        ("system", "be kind"),
        ("user", "one\n\n0"),
        ("assistant", "1"),
        ("user", "and now?"),
    ]
    history = history[:2]
    assert _plain(build("", history, NEW, start=0, max_tokens=1000, max_bytes=10**7).messages) == [
        ("user", "one\n\nand now?")
    ]


def test_texts_and_parts_are_joined_as_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    history = [_stored("user", [picture]), _stored("assistant", "")]
    (message,) = build("", history, NEW, start=0, max_tokens=5000, max_bytes=10**7).messages
    assert msgspec.json.decode(message.content) == [picture, {"type": "text", "text": "and now?"}]


def test_thinking_that_was_stored_is_not_replayed() -> None:
    history = [_stored("user", "a"), _stored("assistant", "<think>plan</think>\n\nb")]
    history += [_stored("user", "c"), _stored("assistant", "<think>nothing but that")]
    assert _plain(build("", history, NEW, start=0, max_tokens=1000, max_bytes=10**7).messages) == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c\n\nand now?"),
    ]


@given(st.lists(st.sampled_from(["", "x", "<think>y", " "]), max_size=8), st.integers(40, 200))
def test_roles_alternate_in_every_prompt(answers: list[str], room: int) -> None:
    history = []
    for number, text in enumerate(answers):
        history += [_stored("user", f"q{number}"), _stored("assistant", text)]
    prompt = build("", history, NEW, start=0, max_tokens=room, max_bytes=10**7)
    roles = [message.role for message in prompt.messages]
    assert roles == [("user", "assistant")[n % 2] for n in range(len(roles))] and len(roles) % 2
    asked = " ".join(str(said) for role, said in _plain(prompt.messages) if role == "user")
    replayed = range(prompt.start // 2, len(answers))
    assert [n for n in replayed if f"q{n}" not in asked] == []
    assert prompt.tokens >= sum(map(estimate_tokens, prompt.messages))


def test_pictures_count_by_their_bytes() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:" + "x" * 1000}}]
    history = [_stored("user", picture), _stored("assistant", "a cat")] * 8
    prompt = build("", history, NEW, start=4, max_tokens=10**6, max_bytes=5000)
    assert (len(prompt.messages), prompt.start) == (2 * 3 + 1, 4 + 2 * 5)
    assert prompt.size <= 5000 * 3 // 4 and prompt.replayed_bytes == sum(map(len, history[:6]))
    with pytest.raises(PromptTooLong, match="bytes"):
        build("", [], NEW, start=0, max_tokens=10**6, max_bytes=20)


def test_a_history_that_begins_with_an_answer_is_replayed_from_the_next_question_on() -> None:
    prompt = build("", _turns(2)[1:], NEW, start=1, max_tokens=1000, max_bytes=10**7)
    assert [m.role for m in prompt.messages] == ["user", "assistant", "user"] and prompt.start == 2
