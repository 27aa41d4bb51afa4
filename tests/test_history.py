"""What of a history is sent to the model, and when a chat is forgotten."""

import time
from typing import Any

from dev.model import ModelServer
from dev.redis_server import RedisServer
from tests.harness import Client
from tests.test_bad_input import assert_error
from tests.traces import traces_of


def test_preview_shows_what_would_be_sent_and_sends_nothing(
    client: Client, model: ModelServer, redis_server: RedisServer, chat_id: str
) -> None:
    client.say(chat_id, "one", system="Be brief.")
    body = {"content": "two", "model": "m"}
    traces = traces_of(redis_server, chat_id)
    preview = client.post(f"/{chat_id}/chat/preview", body).json
    assert len(model.requests) == 1 and traces_of(redis_server, chat_id) == traces != []
    client.post(f"/{chat_id}/chat", body)
    sent = model.requests[-1].body
    assert (preview["messages"], preview["model"]) == (sent["messages"], sent["model"])
    assert preview["prompt_tokens_estimate"] > 0 and preview["dropped_messages"] == 0
    assert_error(
        client.post(f"/{chat_id}/chat/preview", {"content": ""}), 400, "invalid_field", "content"
    )


def test_old_turns_are_dropped_from_the_prompt_in_blocks_and_never_from_the_history(
    start_function: Any, model: ModelServer, chat_id: str
) -> None:
    client = start_function(MAX_PROMPT_TOKENS="400").client
    starts = []
    for n in range(40):
        dropped = client.post(f"/{chat_id}/chat/preview", {"content": f"message {n}"}).json[
            "dropped_messages"
        ]
        client.say(chat_id, f"message {n}")
        sent = [m["content"] for m in model.requests[-1].body["messages"]]
        history = [m["content"] for m in client.get(f"/{chat_id}/chat").json]
        assert sent == history[dropped:-1]
        starts.append(dropped)
    assert len(history) == 80 and starts == sorted(starts) and starts[-1] > 40
    assert len(set(starts)) < 12, "the cut moves now and then, not with every turn"


def test_a_chat_is_forgotten_after_its_time(
    start_function: Any, redis_server: RedisServer, model: ModelServer, chat_id: str
) -> None:
    client = start_function(CHAT_TTL_SECONDS="1.5").client
    client.say(chat_id, "x", stream=True)
    time.sleep(0.9)
    client.say(chat_id, "y")
    time.sleep(0.9)
    assert len(client.get(f"/{chat_id}/chat").json) == 4, "every turn begins the time anew"
    assert chat_id in [chat["id"] for chat in client.get("/chats").json["data"]]
    time.sleep(1.0)
    assert client.get(f"/{chat_id}/chat").json == [] and client.get(f"/{chat_id}").status == 404
    assert chat_id not in [chat["id"] for chat in client.get("/chats").json["data"]]
