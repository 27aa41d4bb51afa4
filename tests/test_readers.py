"""Who follows a turn from elsewhere waits without a thread, and gets all of it."""

import asyncio
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chat.core.messages import ChatRef
from chat.host.flow import Readable, wait_for
from chat.store.keyspace import log_key
from chat.store.store import Store
from chat.store.turn_log import TurnLog
from chat.store.vault import Vault
from dev.model import Answer, ModelServer
from dev.redis_server import RedisServer
from tests.harness import (
    Client,
    Event,
    Function,
    Reply,
    StartFunction,
    Stream,
    start_stream,
    text_of,
    threads_of,
    wait_until,
)
from tests.tls import self_signed


@pytest.fixture(scope="module")
def small(start_function: StartFunction) -> Function:
    """An instance with few threads."""
    most = str(16 * 1024 * 1024)
    return start_function(THREADS="8", KEEPALIVE_SECONDS="0.3", MAX_ANSWER_BYTES=most)


@pytest.fixture
def client(small: Function, model: ModelServer) -> Client:
    return small.client


def _follow(client: Client, chat_id: str) -> Stream:
    reader = client.stream(f"/{chat_id}/chat/stream", method="GET")
    assert reader.next().name == "started"
    return reader


def _next_delta(stream: Stream) -> str:
    return str(stream.until("delta").data["text"])


def _said(events: list[Event]) -> tuple[str, str]:
    """What was heard, and how it ended."""
    return text_of(events), events[-1].name


def test_many_more_readers_than_threads_follow_a_turn(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["here ", "I ", "am"], gate=gate))
    readers = [start_stream(client, chat_id, Idempotency_Key="k")[0]]
    readers += [start_stream(client, chat_id, Idempotency_Key="k")[0] for _ in range(20)]
    readers += [_follow(client, chat_id) for _ in range(20)]
    heard = [_next_delta(reader) for reader in readers]
    assert set(heard) <= {"here ", "here I "}
    assert client.get("/health").status == 200
    assert client.say(f"{chat_id}-2", "x").status == 200
    assert len(model.requests) == 2
    gate.set()
    for text, reader in zip(heard, readers, strict=True):
        rest = reader.rest()
        assert (text + text_of(rest), rest[-1].name) == ("here I am", "completed")
        assert rest[-1].data["content"] == "here I am"


@pytest.mark.parametrize("first_fails", [False, True])
def test_many_more_repeats_than_threads_wait_for_the_answer_of_the_first(
    small: Function,
    client: Client,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    first_fails: bool,
) -> None:
    model.enqueue(Answer(["the ", "answer"], gate=gate, cut=first_fails))
    model.enqueue(Answer(["the ", "answer"], hang=0.2))

    def say() -> Reply:
        return client.post(f"/{chat_id}/chat", {"content": "x"}, Idempotency_Key="k")

    with ThreadPoolExecutor(25) as pool:
        first = pool.submit(say)
        assert wait_until(lambda: model.requests)
        others = [pool.submit(say) for _ in range(24)]
        time.sleep(1)
        assert client.get("/health").status == 200
        assert threads_of(small) < 30 and not any(reply.done() for reply in others)
        gate.set()
        replies = [reply.result() for reply in others]
    assert first.result().status == (502 if first_fails else 200)
    assert {(r.status, r.json["content"]) for r in replies} == {(200, "the answer")}
    assert len({r.json["id"] for r in replies}) == 1
    assert len(model.requests) == 1 + first_fails


def test_waiting_readers_are_kept_alive_and_those_of_a_finished_turn_do_not_wait(
    client: Client, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=gate))
    start_stream(client, chat_id)
    readers = [_follow(client, chat_id) for _ in range(12)]
    assert [_next_delta(reader) for reader in readers] == ["a"] * 12
    for reader in readers:
        assert all(reader.until(":") for _ in range(3))
    gate.set()
    assert {_said(r.rest()) for r in readers} == {("b", "completed")}
    late = client.get(f"/{chat_id}/chat/stream")
    assert _said(late.events) == ("ab", "completed") and late.headers["Connection"] != "close"


def test_a_reader_that_leaves_gives_its_connection_to_redis_back(
    start_function: Any, own_redis: RedisServer, model: ModelServer, chat_id: str
) -> None:
    model.enqueue(Answer(pieces=["a", "b"], gate=(gate := threading.Event())))
    client = start_function(REDIS_URL=own_redis.url, THREADS="4", KEEPALIVE_SECONDS="0.3").client
    stream, _ = start_stream(client, chat_id)
    before = _connections(own_redis)[0]
    readers = [_follow(client, chat_id) for _ in range(30)]
    assert wait_until(lambda: _connections(own_redis)[1] == 30), "all wait in Redis"
    for reader in readers:
        reader.leave()
    assert wait_until(lambda: _connections(own_redis)[1] == 0), "none waits any more"
    # What is left are idle ones, of the few threads that asked something else at the same time.
    assert _connections(own_redis)[0] <= before + 12
    gate.set()
    assert stream.rest()[-1].data["content"] == "ab"


def _connections(redis: RedisServer) -> tuple[int, int]:
    """How many there are, and how many of them wait for something."""
    clients = redis.client().client_list()
    return len(clients), sum("b" in client["flags"] for client in clients)


def test_readers_are_told_how_a_turn_ended_whose_instance_was_killed(
    start_function: Any, client: Client, model: ModelServer, chat_id: str
) -> None:
    victim: Function = start_function()
    model.enqueue(Answer(pieces=["was ", "said ", "never"], gate=threading.Event()))
    stream, _ = start_stream(victim.client, chat_id)
    stream.next(), stream.next()
    readers = [_follow(client, chat_id) for _ in range(24)]
    time.sleep(0.5)  # one flush
    victim.kill()
    assert {_said(reader.rest()) for reader in readers} == {("was said ", "interrupted")}
    assert client.get(f"/{chat_id}/chat").json[1]["status"] == "incomplete"


@pytest.mark.parametrize("flushed_seconds", [0.0, 0.2, 1.5])
def test_who_resumes_a_long_answer_need_not_read_it_at_once(
    client: Client,
    model: ModelServer,
    chat_id: str,
    gate: threading.Event,
    flushed_seconds: float,
) -> None:
    long = "x" * 8_000_000  # more than the sockets on the way can hold
    pieces = [long[at : at + 100_000] for at in range(0, len(long), 100_000)]
    model.enqueue(Answer(pieces=[*pieces, "the ", "end"], gate=gate))
    stream, _ = start_stream(client, chat_id)
    heard = 0
    while heard < len(long) + 4:
        heard += len(_next_delta(stream))
    time.sleep(flushed_seconds)  # all of it is in the log, or a part, and more comes later
    reader = client.stream(f"/{chat_id}/chat/stream", method="GET")
    time.sleep(0.5)
    gate.set()
    stream.rest()
    time.sleep(1.0)
    assert _said(reader.rest()) == (long + "the end", "completed")


def test_readers_wait_over_tls_too(
    start_function: Any, tmp_path: Path, model: ModelServer, chat_id: str, gate: threading.Event
) -> None:
    redis = RedisServer(tmp_path / "redis", password="p").start()
    certificate = self_signed(tmp_path)
    with _Tls(redis, certificate) as port:
        client = start_function(
            REDIS_URL=f"rediss://:p@localhost:{port}?ssl_ca_certs={certificate}",
            THREADS="4",
            KEEPALIVE_SECONDS="0.3",
        ).client
        model.enqueue(Answer(pieces=["a" * 100_000, "b" * 100_000], gate=gate))
        start_stream(client, chat_id)
        readers = [_follow(client, chat_id) for _ in range(12)]
        assert {_next_delta(reader) for reader in readers} == {"a" * 100_000}
        assert client.get("/health").status == 200
        gate.set()
        assert {_said(reader.rest()) for reader in readers} == {("b" * 100_000, "completed")}
    redis.stop()


def test_a_request_to_stop_is_not_read_over_and_over(own_redis: RedisServer) -> None:
    store = Store(own_redis.client, lock_keys_only=False, cluster=False)
    logs, chat = TurnLog(store, store, Vault([])), ChatRef("ada", "x")
    own_redis.client().xadd(log_key(chat, "n"), {"b": ""}, id="0-1")
    logs.stop(chat, "n", "cancelled")
    tail, began = logs.tail(chat, "n"), time.monotonic()
    for _ in range(4):
        tail.ask(0, 0.3)
        while not tail.receive():
            wait_for(Readable(tail.fileno()), 2.0)
        assert tail.read() == []
    assert time.monotonic() - began > 0.8, "the first read found it, the others waited"


class _Tls:
    """A way to a Redis that is encrypted, as the one to a hosted Redis."""

    def __init__(self, redis: RedisServer, certificate: Path) -> None:
        self._path = redis.client().connection_pool.connection_kwargs["path"]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        starting = asyncio.start_server(self._forward, "127.0.0.1", 0, ssl=self._context)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        return int(server.sockets[0].getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _forward(self, come: asyncio.StreamReader, go: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(_pump(come, questions), _pump(answers, go))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    except OSError:
        pass
    target.close()
