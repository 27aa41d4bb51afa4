"""What `make chaos` checks: histories against what clients were told and the model was sent."""

import time
from collections import Counter
from typing import Any

from bench.world import CHATS, LOG_SECONDS, World, digest
from chat.core.credentials import ANONYMOUS
from chat.core.usage import read_line
from chat.store.keyspace import record_key, running_key, usage_key
from tests.harness import Client

_KINDS = (
    "chats",
    "chat",
    "history",
    "once",
    "sizes",
    "user",
    "usage",
    "",
)  # the last one is the list of owners


def check(world: World) -> None:
    """Compare the histories with what clients were told and the model was sent."""
    histories = {}
    for n in range(CHATS):
        path = f"/chat-{n}/chat?limit=1000"
        pages = [_whole_history(function.client, path) for function in world.functions]
        _expect(
            world, all(page == pages[0] for page in pages), f"chat-{n} differs between instances"
        )
        histories[f"chat-{n}"] = pages[0]
    for chat_id, history in histories.items():
        _check_history(world, chat_id, history)
    stored = [m for history in histories.values() for m in history]
    # An answer of which nothing came is in the history, but not in a prompt.
    everything = [m["content"] for m in stored if m["content"] or m["role"] == "user"]
    place = {content: at for at, content in enumerate(everything)}
    _check_said(world, histories)
    for first, count, expected in world.prompts:
        _check_prompt(world, everything, place, first, count, expected)
    _check_keys(world)
    world.counts["messages in the histories"] = len(stored)
    _check_usage(world)


def _whole_history(client: Client, path: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while path:
        reply = client.get(path)
        if reply.status != 200:
            raise RuntimeError(f"GET {path}: {reply.status} {reply.body!r}")
        messages = reply.json + messages
        query = reply.headers.get("Link", "").partition("<")[2].partition(">")[0]
        path = query and path.partition("?")[0] + query
    return messages


def _check_history(world: World, chat_id: str, history: list[dict[str, Any]]) -> None:
    roles = [m["role"] for m in history]
    _expect(
        world,
        roles == ["user", "assistant"] * (len(history) // 2),
        f"{chat_id}: roles do not alternate",
    )
    parents = [m["parent_id"] for m in history]
    ids = [m["id"] for m in history]
    _expect(world, parents == [None, *ids[:-1]][: len(ids)], f"{chat_id}: turns interleave")
    _expect(world, len(set(ids)) == len(ids), f"{chat_id}: an id stands twice")
    for question, answer in zip(history[::2], history[1::2], strict=True):
        own = answer["content"] == "" or answer["content"].startswith(
            f"re {question['content']}: "[: len(answer["content"])]
        )
        _expect(world, own, f"{chat_id}: {question['content']} has the answer of another")


def _check_said(world: World, histories: dict[str, list[dict[str, Any]]]) -> None:
    for said in world.said:
        history = histories[said.chat_id]
        places = [
            at
            for at, m in enumerate(history)
            if m["role"] == "user" and m["content"] == said.content
        ]
        if said.message:
            stored = history[places[0] + 1] if len(places) == 1 else None
            _expect(
                world,
                stored == said.message,
                f"{said.content} in {said.chat_id}: acknowledged, stored {len(places)} times",
            )
        elif said.outcome == "failed" and not said.twice:
            _expect(world, not places, f"{said.content}: said to have failed, but is stored")
        else:
            _expect(world, len(places) <= 1, f"{said.content}: stored {len(places)} times")


def _check_prompt(
    world: World,
    everything: list[str],
    place: dict[str, int],
    first: str,
    count: int,
    expected: str,
) -> None:
    """All of a prompt but its new message is a contiguous part of a history."""
    at = place.get(first)
    if count == 0:
        return
    if at is None:
        world.wrong.append(f"a prompt begins with {first!r}, which is in no history")
    else:
        same = digest(everything[at : at + count]) == expected
        _expect(world, same, f"{count} messages from {first!r} on are not the history as it stood")


def _check_keys(world: World) -> None:
    client = world.redis.client()
    deadline = time.monotonic() + LOG_SECONDS + 5
    while True:
        kinds = [
            (key.decode().split(":", 2)[2:] or [""])[0].partition(":")[0]
            for key in client.scan_iter(count=1000)
        ]
        left = [kind for kind in kinds if kind not in _KINDS]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    _expect(world, not left, f"keys are left over: {Counter(left)}")
    world.counts["keys left over besides chats"] = len(left)
    for key in client.scan_iter("*:chat:*", count=1000):
        _expect(world, not client.hget(key, "turn"), f"{key!r} still has a running turn")
    running = client.zrange(running_key(ANONYMOUS), 0, -1)
    _expect(world, not running, f"turns are counted as running that are not: {running!r}")
    reserved = (client.hget(record_key(ANONYMOUS), "reserved") or b":0").partition(b":")[2]
    _expect(world, reserved == b"0", f"{reserved!r} tokens are reserved for turns that have ended")


def _check_usage(world: World) -> None:
    """Usage covers every stored turn, and may cover turns that were not stored."""
    lines = world.redis.client().lrange(usage_key(ANONYMOUS), 0, -1)
    accounted = sum(read_line(line.decode()).requests for line in lines)
    stored = world.counts["messages in the histories"] // 2
    world.counts["turns accounted for"] = accounted
    _expect(world, accounted >= stored, f"{stored} turns are stored, but usage has {accounted}")


def _expect(world: World, true: bool, otherwise: str) -> None:
    if not true:
        world.wrong.append(otherwise)
