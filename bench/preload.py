"""Long chats, written into Redis directly, since 100,000 turns would take hours."""

import json
from collections.abc import Callable

import msgspec
from redis import Redis

from chat.core.credentials import ANONYMOUS
from chat.core.messages import (
    Ask,
    ChatRef,
    TurnRef,
    id_of,
    new_nonce,
    write_assistant_message,
    write_user_message,
)
from chat.store.keyspace import chat_key, chats_key, history_key

_TEXT = "A message of one hundred bytes, as people write them when they ask about something or answer it..."
_BATCH = 1000

#: Writes a chat of a number of messages into Redis.
Preload = Callable[["Redis", str, int], None]


def preload_ours(redis: "Redis", chat_id: str, messages: int) -> None:
    """As the `commit` script stores it, turn by turn."""
    chat, parent = ChatRef(ANONYMOUS, chat_id), None
    stored: list[bytes] = []
    for index in range(0, messages, 2):
        stored += _turn(chat, index, parent)
        parent = id_of(stored[-1])
    _push(redis, history_key(chat), stored)
    fields = ("created_at", 1, "updated_at", 1, "message_count", messages, "turn", "", "title", "x")
    redis.hset(chat_key(chat), items=list(fields))
    redis.zadd(chats_key(chat.owner), {chat_id: 1})


def preload_fifty(redis: "Redis", chat_id: str, messages: int) -> None:
    """As the fifty lines store it."""
    pair = [json.dumps({"role": role, "content": _TEXT}).encode() for role in ("user", "assistant")]
    _push(redis, f"history:{chat_id}", pair * (messages // 2))


def _turn(chat: ChatRef, index: int, parent: str | None) -> list[bytes]:
    ref, ask = TurnRef(index, new_nonce()), Ask(msgspec.Raw(msgspec.json.encode(_TEXT)))
    answer = write_assistant_message(
        ref, chat.id, _TEXT, model="bench", status="completed", now_ms=1, finish_reason="stop"
    )
    return [write_user_message(ref, ask, began_ms=1, parent_id=parent), answer]


def _push(redis: "Redis", key: str, messages: list[bytes]) -> None:
    for at in range(0, len(messages), _BATCH):
        redis.rpush(key, *messages[at : at + _BATCH])
