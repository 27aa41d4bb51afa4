"""A cursor names its turn: every answer comes whole, once, and its end is heard once."""

import re
import threading
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, Event, Function, start_stream, text_of
from tests.promises import exchange, head_of

CURSOR = re.compile(r"([A-Za-z0-9_-]+):([0-9]+|end)")


@pytest.fixture
def client(one: Function, model: ModelServer) -> Client:
    return one.client


def named(events: list[Event]) -> list[Event]:
    return [event for event in events if event.name != ":"]


class EventSource:
    """What a browser does with a stream: it comes back with the last id it has, until it is told 204."""

    def __init__(self, client: Client, chat_id: str) -> None:
        self._client = client
        self._path = f"/{chat_id}/chat/stream"
        self.last_id = ""

    def connect(self, most: int | None = None) -> list[Event]:
        """The events of one connection, or the first of them; none: there is nothing to come."""
        headers = {"Last_Event_ID": self.last_id} if self.last_id else {}
        stream = self._client.stream(self._path, None, "GET", **headers)
        assert stream.status in (200, 204), "with anything else it gives up for ever"
        events: list[Event] = []
        while stream.status == 200 and (most is None or len(events) < most):
            event = next((e for e in stream.events if e.name != ":"), None)
            if event is None:
                break
            events.append(event)
            self.last_id = event.id or self.last_id
        stream.leave()
        return events


def test_the_ids_of_events_name_the_turn_and_the_place_and_the_end(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(*[Answer(pieces=["ab", "c😀", "d"], pause=0.15)] * 2)
    said = named(client.say(chat_id, "x", stream=True).events)
    mark = CURSOR.fullmatch(said[0].id)
    assert mark, said[0].id
    places = {"started": 0, "ab": 2, "c😀": 4, "d": 5}
    for event in said[:-1]:
        assert event.id == f"{mark[1]}:{places[event.data.get('text', 'started')]}"
    assert said[-1].id == f"{mark[1]}:end"
    again = named(b.get(f"/{chat_id}/chat/stream").events)
    assert (again[0].id, again[-1].id) == (f"{mark[1]}:0", f"{mark[1]}:end")
    turn = said[0].data["turn_id"]
    assert named(b.get(f"/{chat_id}/turns/{turn}/stream").events)[-1].id == f"{mark[1]}:end"
    later = named(client.say(chat_id, "y", stream=True).events)
    assert later[-1].id.endswith(":end") and later[-1].id != said[-1].id


def test_who_has_heard_the_end_is_told_that_there_is_nothing_until_there_is_another_turn(
    client: Client, b: Client, model: ModelServer, chat_id: str
) -> None:
    client.say(chat_id, "x", stream=True)
    source = EventSource(b, chat_id)
    assert source.connect()[-1].name == "completed"
    assert source.connect() == [] and source.connect() == []
    model.enqueue(Answer(pieces=["short"]))
    client.say(chat_id, "y", stream=True)
    events = source.connect()
    assert [event.name for event in events] == ["started", "delta", "completed"]
    assert text_of(events) == "short" == events[-1].data["content"]
    assert source.connect() == []


def test_an_answer_that_is_longer_than_the_one_before_comes_from_its_beginning(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["1234"]), Answer(pieces=["abcdefgh", "ij"], gate=gate))
    client.say(chat_id, "x", stream=True)
    source = EventSource(b, chat_id)
    assert text_of(source.connect()) == "1234"
    stream, _ = start_stream(client, chat_id, "y")
    stream.next()
    first = source.connect(2)
    gate.set()
    assert text_of([*first, *source.connect()]) == "abcdefghij"
    assert stream.rest()[-1].name == "completed" and source.connect() == []


def test_who_was_cut_off_hears_the_rest_of_that_turn_and_then_the_next_one_whole(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["first ", "answer"], gate=gate), Answer(pieces=["second"]))
    stream, _ = start_stream(client, chat_id, "x")
    stream.next()
    source = EventSource(b, chat_id)
    heard = source.connect(2)
    assert text_of(heard) == "first "
    gate.set()
    assert stream.rest()[-1].name == "completed"
    client.say(chat_id, "y", stream=True)
    rest = source.connect()
    assert text_of([*heard, *rest]) == "first answer"
    assert rest[-1].data["content"] == "first answer"
    assert text_of(source.connect()) == "second" and source.connect() == []


def test_a_cursor_still_names_its_turn_when_its_log_is_gone(
    start_briefly: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_briefly(LOG_SECONDS="1").client
    model.enqueue(Answer(pieces=["first ", "answer"], pause=0.3), Answer(pieces=["second"]))
    cursor = named(client.say(chat_id, "x", stream=True).events)[1].id
    client.say(chat_id, "y")
    threading.Event().wait(1.2)  # until the log has expired
    rest = named(client.get(f"/{chat_id}/chat/stream", Last_Event_ID=cursor).events)
    assert text_of(rest) == "answer" and rest[-1].data["content"] == "first answer"


def test_a_cursor_of_a_turn_that_failed_or_was_taken_back_leads_to_the_next_turn(
    client: Client, b: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    client.say(chat_id, "before")
    model.enqueue(Answer(pieces=["half ", "never"], gate=gate), Answer(pieces=["instead"]))
    stream, _ = start_stream(client, chat_id, "x")
    cursor = stream.next().id
    assert b.say(chat_id, "y", when_busy="rollback", stream=True).status == 200
    gate.set()
    assert stream.rest()[-1].name == "failed"
    events = named(b.get(f"/{chat_id}/chat/stream", Last_Event_ID=cursor).events)
    assert text_of(events) == "instead" and events[-1].name == "completed"


@pytest.mark.parametrize(
    "cursor",
    ["999999", "-1", "zzz:4", "zzz:end", ":", "end", "a" * 3000, "1.5", "٣", "5a3f9c:999999999999"],
)
def test_no_last_event_id_is_ever_refused(
    client: Client, one: Function, chat_id: str, cursor: str
) -> None:
    head = head_of("GET", f"/{chat_id}/chat/stream", None, "Last-Event-ID: ").removesuffix(
        b"\r\n\r\n"
    )
    data = head + cursor.encode() + b"\r\n\r\n"
    assert exchange(one.port, data).startswith(b"HTTP/1.1 204"), "there is no turn"
    said = client.say(chat_id, "x").json["content"]
    reply = exchange(one.port, data)
    assert reply.startswith(b"HTTP/1.1 200"), reply[:200]
    assert said[:10].encode() in reply, "whoever's cursor says nothing gets the newest turn whole"


def test_after_takes_cursors_and_bare_numbers_and_refuses_the_rest(
    client: Client, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["abcdef"]))
    cursor = named(client.say(chat_id, "x", stream=True).events)[1].id
    mark = cursor.rpartition(":")[0]
    path = f"/{chat_id}/chat/stream?after="
    for after, text in ((f"{mark}:2", "cdef"), (f"{mark}:0", "abcdef"), (f"{mark}:6", "")):
        assert text_of(client.get(path + after).events) == text
    assert client.get(f"{path}{mark}:end").status == 204
    for after in (f"{mark}:7", f"{mark}:", f"{mark}:-1", "zzz:1", "end"):
        refused = client.get(path + after)
        assert (refused.status, refused.code) == (400, "invalid_cursor"), after


def test_after_still_takes_bare_numbers(client: Client, model: ModelServer, chat_id: str) -> None:
    model.enqueue(Answer(pieces=["abcdef"]))
    turn = named(client.say(chat_id, "x", stream=True).events)[0].data["turn_id"]
    for path in (f"/{chat_id}/chat/stream", f"/{chat_id}/turns/{turn}/stream"):
        assert text_of(client.get(f"{path}?after=4").events) == "ef"
        for after in ("7", "-1", "x", "1.5"):
            refused = client.get(f"{path}?after={after}")
            assert (refused.status, refused.code) == (400, "invalid_cursor"), after
