"""`autocontinue`: an answer that stopped for length is continued."""

from typing import Any

import pytest

from dev.model import Answer, ModelServer
from tests.harness import Client
from tests.test_bad_input import assert_error


@pytest.mark.parametrize("value", ["yes", 1, "True", []])
def test_autocontinue_is_true_or_false(client: Client, value: Any) -> None:
    assert_error(
        client.post("/conversations/new", {"prompt": "x", "autocontinue": value}),
        400,
        "invalid_field",
        "autocontinue",
    )


def test_autocontinue_goes_on_while_the_model_stops_for_length(
    client: Client, model: ModelServer
) -> None:
    model.enqueue(
        Answer(pieces=["one ", "two "], finish_reason="length"),
        Answer(pieces=["three "], finish_reason="length"),
        Answer(pieces=["four"]),
    )
    reply = client.post("/conversations/new", {"prompt": "count", "autocontinue": "true"})
    answer = reply.json["response"]
    assert (answer["message"], answer["end_turn"]) == ("one two three four", True)
    sent = [[m["role"] for m in asked.body["messages"]] for asked in model.requests]
    assert sent == [["user"], ["user", "assistant", "user"], ["user", "assistant", "user"]]
    assert model.requests[2].body["messages"][1]["content"] == "one two three "
    history = client.get(f"/{answer['conversation_id']}/chat").json
    assert len(history) == 2 and history[1]["usage"]["completion_tokens"] == 4


def test_autocontinue_stops_after_five_times_and_keeps_what_there_is(
    client: Client, model: ModelServer
) -> None:
    model.enqueue(*(Answer(pieces=[f"{n} "], finish_reason="length") for n in range(9)))
    answer = client.post("/conversations/new", {"prompt": "x", "autocontinue": True}).json[
        "response"
    ]
    assert (answer["message"], answer["finish_details"], answer["end_turn"]) == (
        "0 1 2 3 4 5 ",
        "length",
        False,
    )
    model.reset()
    model.enqueue(
        Answer(pieces=["enough "], finish_reason="length"), Answer(status=400, error="no")
    )
    answer = client.post("/conversations/new", {"prompt": "x", "autocontinue": True}).json[
        "response"
    ]
    assert (answer["message"], answer["finish_details"]) == ("enough ", "length")
    model.reset()
    model.enqueue(Answer(pieces=["short "], finish_reason="length"))
    answer = client.post("/conversations/new", {"prompt": "x"}).json["response"]
    assert (answer["message"], answer["end_turn"], len(model.requests)) == ("short ", False, 1)
