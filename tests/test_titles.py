"""Where a chat's title comes from: its first words, the model, or a person."""

import threading
import time
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client, wait_until


@pytest.mark.parametrize(
    "prompt, title",
    [
        ("Hello", "Hello"),
        (
            "What is the   airspeed\nvelocity of an unladen swallow, please?",
            "What is the airspeed velocity of an unladen…",
        ),
        (
            [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}],
            "Look",
        ),
        ("漢" * 60, "漢" * 50 + "…"),
        ("a" * 49 + "e\u0301" * 10, "a" * 49 + "…"),
        ("x" * 48 + "👩\u200d👩\u200d👧" * 3, "x" * 48 + "…"),
        ("y" * 49 + "🇩🇪🇫🇷", "y" * 49 + "…"),
        ("e" + "\u0301" * 90, "e" + "\u0301" * 49 + "…"),
    ],
)
def test_a_conversation_without_a_title_gets_one_from_its_first_prompt(
    client: Client, prompt: Any, title: str
) -> None:
    chat = client.post("/conversations/new", {"prompt": prompt}).json["response"]["conversation_id"]
    client.post(f"/conversations/{chat}/ask", {"prompt": "Something else"})
    assert client.get(f"/{chat}").json["title"] == title


@pytest.mark.parametrize(
    "part, label",
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "Image"),
        ({"type": "file", "file": {"filename": "tax.pdf", "file_data": "x"}}, "tax.pdf"),
    ],
)
def test_a_chat_that_begins_with_a_picture_is_called_by_it_until_there_is_text(
    client: Client, chat_id: str, part: Any, label: str
) -> None:
    client.say(chat_id, [part])
    assert client.get(f"/{chat_id}").json["title"] == label
    client.say(chat_id, "What is in it?")
    client.say(chat_id, "And what else?")
    assert client.get(f"/{chat_id}").json["title"] == "What is in it?"


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_may_give_the_title_once_and_later(
    start_function: Any, model: ModelServer, chat_id: str, stream: bool
) -> None:
    client = start_function(TITLES="model").client
    gate = threading.Event()
    model.enqueue(Answer(pieces=["An answer."]), Answer(pieces=['"A ', 'fine\n title"'], gate=gate))
    client.say(chat_id, "What is it?", stream=stream)
    assert client.get(f"/{chat_id}").json["title"] == "What is it?", (
        "the answer is out before the title"
    )
    gate.set()
    assert wait_until(lambda: client.get(f"/{chat_id}").json["title"] == "A fine title")
    assert "What is it?\n\nAn answer." in model.requests[1].body["messages"][1]["content"]
    client.say(chat_id, "And now?")
    assert len(model.requests) == 3, "once"


def test_a_title_that_a_person_gave_stays(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(TITLES="model").client
    gate = threading.Event()
    model.enqueue(Answer(pieces=["An answer."]), Answer(pieces=["Too ", "late"], gate=gate))
    client.say(chat_id, "What is it?")
    assert wait_until(lambda: len(model.requests) == 2)
    client.request("PATCH", f"/{chat_id}", {"title": "Mine"})
    gate.set()
    client.post("/conversations/new", {"prompt": "x", "title": "Also mine"})
    model.enqueue(Answer(status=400, error="no"))
    assert wait_until(lambda: len(model.requests) == 3)
    time.sleep(0.3)
    assert client.get(f"/{chat_id}").json["title"] == "Mine"
    assert client.get("/conversations").json[0]["title"] == "Also mine"


def test_a_title_that_the_model_does_not_give_is_the_first_words(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(TITLES="model").client
    model.enqueue(Answer(pieces=["An answer."]), Answer(status=400, error="no"))
    client.say(chat_id, "What is it?")
    assert wait_until(lambda: len(model.requests) == 2)
    time.sleep(0.2)
    assert client.get(f"/{chat_id}").json["title"] == "What is it?"


def test_titles_can_be_off(start_function: Any, model: ModelServer, chat_id: str) -> None:
    client = start_function(TITLES="off").client
    client.say(chat_id, "What is it?")
    assert client.get(f"/{chat_id}").json["title"] is None and len(model.requests) == 1
