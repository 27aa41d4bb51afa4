"""What a turn costs in Redis, and that a slow Redis costs no token its time."""

import itertools
import math
import socket
import threading
import time
from typing import Any

from bench.commands import STREAMED, UNSTREAMED, measure, running
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import free_port


def test_commands_and_round_trips_of_a_turn() -> None:
    with running() as (function, model, redis):
        client = function.client
        unstreamed = measure(client, model, redis, UNSTREAMED, stream=False)
        assert unstreamed.billed <= 12, unstreamed.commands
        assert (unstreamed.before_first, unstreamed.after_last, unstreamed.trips) == (1, 1, 2)
        streamed = measure(client, model, redis, STREAMED, stream=True)
        # The log is written once a second: on a busy machine the turn takes longer than its seven.
        late = max(0, math.ceil(streamed.seconds - 7))
        assert streamed.billed <= 26 + late, streamed.commands
        assert (streamed.before_first, streamed.after_last, streamed.trips) == (1, 1, 2)


def test_a_slow_redis_does_not_slow_the_tokens_down(
    start_function: Any, tmp_path: Any, model: ModelServer, chat_id: str
) -> None:
    redis = RedisServer(tmp_path, port=free_port()).start()
    try:
        client = start_function(
            REDIS_URL=_slowed(redis.port, seconds=0.5), LEASE_SECONDS="15"
        ).client
        client.say(chat_id, "warm", stream=True)
        model.enqueue(Answer(pieces=[f"{n} " for n in range(100)], pause=0.02))
        seen = []
        for event in client.stream(f"/{chat_id}/chat", {"content": "x", "stream": True}).events:
            if event.name == "delta":
                seen.append(time.monotonic())
        pauses = [later - earlier for earlier, later in itertools.pairwise(seen)]
        assert len(seen) > 50 and max(pauses) < 0.4, "each write takes half a second"
        assert client.get(f"/{chat_id}/chat").json[3]["content"] == "".join(
            f"{n} " for n in range(100)
        )
    finally:
        redis.stop()


def _slowed(port: int, seconds: float) -> str:
    """A way to a Redis on which every request takes so much longer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(source: socket.socket, target: socket.socket, delay: float) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(delay)
                target.sendall(data)
        except OSError:
            pass

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for args in ((client, server, seconds), (server, client, 0.0)):
                threading.Thread(target=forward, args=args, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"redis://127.0.0.1:{listener.getsockname()[1]}"
