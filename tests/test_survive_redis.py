"""Turns and readers survive a Redis that is away or slow."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import start_stream, text_of, wait_until
from tests.test_bad_input import assert_error


def test_a_stream_goes_on_while_redis_is_away_and_is_stored_when_it_is_back(
    start_function: Any, own_redis: RedisServer, model: ModelServer, chat_id: str
) -> None:
    client = start_function(
        REDIS_URL=own_redis.url, LEASE_SECONDS="15", KEEPALIVE_SECONDS="0.3"
    ).client
    client.say("warm", "x")
    pieces = [f"{n} " for n in range(60)]
    model.enqueue(Answer(pieces=pieces, pause=0.05))
    stream, _ = start_stream(client, chat_id)
    for _ in range(10):
        stream.next()
    os.kill(own_redis.pid, signal.SIGSTOP)
    began = time.monotonic()
    events = [stream.next() for _ in range(50)]
    assert time.monotonic() - began < 5, "tokens do not wait for Redis"
    busy = time.monotonic()
    assert_error(client.say("other", "x"), 503, "store_unavailable")
    assert time.monotonic() - busy < 2
    time.sleep(1)
    os.kill(own_redis.pid, signal.SIGCONT)
    events += stream.rest()
    assert events[-1].name == "completed" and events[-1].data["content"] == "".join(pieces)
    assert client.get(f"/{chat_id}/chat").json[1] == events[-1].data
    assert client.get("/other/chat").json == [], "a message that was refused is not stored later"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_reader_outlasts_a_redis_that_is_away(
    start_function: Any,
    own_redis: RedisServer,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    how: signal.Signals,
) -> None:
    client = start_function(
        REDIS_URL=own_redis.url, LEASE_SECONDS="15", KEEPALIVE_SECONDS="0.3"
    ).client
    model.enqueue(Answer(pieces=["before ", "after"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    reader = client.stream(f"/{chat_id}/chat/stream", method="GET")
    reader.until(":")
    os.kill(own_redis.pid, how)
    time.sleep(4)  # longer than anybody waits for one reply
    if how == signal.SIGSTOP:
        os.kill(own_redis.pid, signal.SIGCONT)
    else:
        own_redis.kill()
        own_redis.start()
    gate.set()
    events = reader.rest()
    assert (text_of(events), events[-1].name) == ("after", "completed")
    assert events[-1] == stream.rest()[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_reader_is_told_when_redis_stays_away(
    start_function: Any,
    own_redis: RedisServer,
    model: ModelServer,
    chat_id: str,
    how: signal.Signals,
) -> None:
    client = start_function(
        REDIS_URL=own_redis.url, STORE_PATIENCE_SECONDS="1", KEEPALIVE_SECONDS="0.3"
    ).client
    model.enqueue(Answer(pieces=["a", "never"], gate=threading.Event()))
    start_stream(client, chat_id)
    reader = client.stream(f"/{chat_id}/chat/stream", method="GET")
    assert reader.next().name == "started"
    reader.until(":")
    os.kill(own_redis.pid, how)
    began = time.monotonic()
    last = next(e for e in reader.events if e.name != ":" or time.monotonic() > began + 6)
    own_redis.kill()
    assert last.name == "failed" and last.data["error"]["code"] == "store_unavailable"
    assert time.monotonic() - began > 0.5


def test_a_turn_that_cannot_be_stored_in_time_says_so(
    start_function: Any, own_redis: RedisServer, model: ModelServer, chat_id: str
) -> None:
    client = start_function(
        REDIS_URL=own_redis.url, STORE_PATIENCE_SECONDS="1", KEEPALIVE_SECONDS="0.3"
    ).client
    model.enqueue(Answer(pieces=["a ", "b ", "c"], pause=0.3))
    stream, _ = start_stream(client, chat_id)
    events = [stream.next(), stream.next()]
    own_redis.kill()
    events += stream.rest()
    assert text_of(events) == "a b c"
    assert (events[-1].name, events[-1].data["error"]["code"]) == (
        "failed",
        "store_unavailable",
    )
    own_redis.start()
    assert wait_until(
        lambda: (
            client.get(f"/{chat_id}/chat").status == 200 and client.get(f"/{chat_id}/chat").json
        ),
        6,
    )
    assert client.get(f"/{chat_id}/chat").json[1]["status"] == "incomplete"
