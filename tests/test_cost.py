"""What a turn costs in Redis, and that a slow Redis costs no token its time."""

import itertools
import math
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.commands import STREAMED, UNSTREAMED, measure, running
from chat.core.credentials import ANONYMOUS
from chat.core.messages import ChatRef
from chat.store.keyspace import chat_key
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer


def test_commands_and_round_trips_of_a_turn() -> None:
    with running() as (function, model, redis):
        client = function.client
        unstreamed = measure(client, model, redis, UNSTREAMED, stream=False)
        assert unstreamed.billed <= 12, unstreamed.commands
        assert (unstreamed.before_first, unstreamed.after_last, unstreamed.trips) == (1, 1, 2)
        streamed = measure(client, model, redis, STREAMED, stream=True)
        # The log is written once a second: on a busy machine the turn takes longer than its seven.
        late = max(0, math.ceil(streamed.seconds - 7))
        # After half a lease comes a heartbeat, whose script Redis does not have the first time.
        beats = streamed.seconds > 7.5
        assert streamed.billed <= 26 + late + 4 * beats, streamed.commands
        assert (streamed.before_first, streamed.after_last) == (1, 1)
        assert streamed.trips == 2 + 2 * beats


def test_a_slow_redis_does_not_slow_the_tokens_down(
    start_function: Any, own_redis: RedisServer, model: ModelServer, chat_id: str
) -> None:
    slowed = _slowed(own_redis, lambda data: 0.5)
    client = start_function(REDIS_URL=slowed, LEASE_SECONDS="15").client
    client.say(chat_id, "warm", stream=True)
    model.enqueue(Answer(pieces=[f"{n} " for n in range(100)], pause=0.02))
    seen = []
    for event in client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True}).events:
        if event.name == "delta":
            seen.append(time.monotonic())
    pauses = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert len(seen) > 50 and max(pauses) < 0.4, "each write takes half a second"
    said = "".join(f"{n} " for n in range(100))
    assert client.get(f"/{chat_id}/chat").json[3]["content"] == said


def test_a_turn_keeps_its_lease_for_as_long_as_it_takes_to_store_it(
    start_function: Any, own_redis: RedisServer, model: ModelServer, chat_id: str
) -> None:
    slowed = _slowed(own_redis, lambda data: 0.9 if b"last words" in data else 0.0)
    client = start_function(REDIS_URL=slowed, LEASE_SECONDS="0.5").client
    model.enqueue(Answer(pieces=["last words"]))
    leases = []
    with own_redis.client() as redis, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(client.say, chat_id, "x")
        while not reply.done():
            began, lease = redis.hmget(chat_key(ChatRef(ANONYMOUS, chat_id)), "began", "lease")
            leases.append(int(lease or 0) - int(began or 0))
            time.sleep(0.05)
    assert reply.result().status == 200
    assert max(leases) > 1000, "a beat after half a second of storing"


def _slowed(redis: RedisServer, delay_of: Callable[[bytes], float]) -> str:
    """A way to a Redis on which a request takes so many seconds longer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(
        source: socket.socket, target: socket.socket, delay_of: Callable[[bytes], float]
    ) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(delay_of(data))
                target.sendall(data)
        except OSError:
            pass

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(redis.url.removeprefix("unix://"))
            for args in ((client, server, delay_of), (server, client, lambda data: 0.0)):
                threading.Thread(target=forward, args=args, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"redis://127.0.0.1:{listener.getsockname()[1]}"
