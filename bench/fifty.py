"""The same product in fifty lines on the openai SDK: history in a Redis list, replayed, streamed.

What one would write first, and what `make bench` compares with. It loses a turn when the client
disconnects or the instance dies, runs a repeated message twice, and mixes up concurrent messages.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import flask
import openai
import redis

model = openai.OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")
store = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=4096)


def main(request: flask.Request) -> Any:
    """POST /<chat_id>/chat with {"content": "...", "stream": true}."""
    body = request.get_json()
    key = f"history:{request.path.split('/')[1]}"
    asked = {"role": "user", "content": body["content"]}
    history: Any = store.lrange(key, 0, -1)
    messages: Any = [*map(json.loads, history), asked]
    if body.get("stream"):
        return flask.Response(stream(key, asked, messages), content_type="text/event-stream")
    completion = model.chat.completions.create(model="bench", messages=messages)
    return remember(key, asked, completion.choices[0].message.content or "")


def stream(key: str, asked: dict[str, str], messages: Any) -> Iterator[str]:
    """The answer as server-sent events."""
    text = ""
    for chunk in model.chat.completions.create(model="bench", messages=messages, stream=True):
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            text += piece
            yield f"data: {json.dumps({'text': piece})}\n\n"
    remember(key, asked, text)
    yield "data: [DONE]\n\n"


def remember(key: str, asked: dict[str, str], text: str) -> dict[str, str]:
    """Store both messages; the answer."""
    answer = {"role": "assistant", "content": text}
    store.rpush(key, json.dumps(asked), json.dumps(answer))
    return answer
