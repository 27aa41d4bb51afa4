"""Entries that are added to a chat, or taken from it, without asking the model."""

import time
from collections.abc import Callable

import msgspec

from chat.core import branches
from chat.core.entries import Entry
from chat.core.errors import TurnInProgress
from chat.core.messages import (
    Ask,
    AssistantMessage,
    ChatRef,
    TurnRef,
    find_ref,
    id_of,
    new_nonce,
    read_message,
    write_assistant_message,
)
from chat.core.outcomes import Begun, Finished, LogEnd
from chat.core.sent import with_new
from chat.core.usage import Used
from chat.store.history import History
from chat.turns.waiting import BUSY

_ASK_AGAIN_SECONDS = 0.5
_ONE = 1  # bytes: one message is read in any case
_NONE = Used("none", 0, 0)


def add_entries(
    history: History,
    chat: ChatRef,
    entries: list[Entry],
    begin: Callable[[Ask, str], object],
    wait_seconds: float,
) -> TurnRef:
    """Store a turn that only keeps entries. `begin`: take the chat's lease. Raises ChatkeepError."""
    ask = with_new(Ask(content=msgspec.Raw(b'""'), openai=True), entries)
    ask, nonce = msgspec.structs.replace(ask, messages=entries), new_nonce()
    give_up_at = time.monotonic() + wait_seconds
    while not isinstance(begun := begin(ask, nonce), Begun):
        if time.monotonic() >= give_up_at:
            raise TurnInProgress(BUSY)
        time.sleep(_ASK_AGAIN_SECONDS)
    return _store(history, chat, begun, ask)


def _store(history: History, chat: ChatRef, begun: Begun, ask: Ask) -> TurnRef:
    """End such a turn: its answer is empty, and is left out wherever the chat is read."""
    ref = begun.ref
    answer = write_assistant_message(
        ref, chat.id, "", model="none", status="completed", now_ms=begun.now_ms
    )
    newest = begun.revision - 1
    before = history.read_ranges(chat, [(newest, newest)], _ONE) if newest >= 0 else []
    finished = Finished(
        ref,
        ask,
        answer,
        LogEnd("completed", 0, ""),
        _NONE,
        began_ms=begun.now_ms,
        now_ms=begun.now_ms,
        parent_id=id_of(before[0]) if before else None,
        forks=branches.forks_after(begun.forks, begun.revision, newest),
    )
    history.commit(chat, finished)
    return ref


def remove_item(history: History, chat: ChatRef, item_id: str) -> bool:
    """Take an item out of its message; false when there is no such item."""
    own = item_id.partition("_")[2].partition("_")[0]
    own, _, place = own.partition("-")
    ref = find_ref(f"msg_{own}")
    stored = history.read_ranges(chat, [(ref.index, ref.index)], _ONE) if ref else []
    if not ref or not stored or id_of(stored[0]) != f"msg_{own}":
        return False
    message = read_message(stored[0])
    if isinstance(message, AssistantMessage):
        emptied: object = msgspec.structs.replace(message, content="", tool_calls=msgspec.UNSET)
    else:
        content = msgspec.json.decode(message.content)
        whole = [{"role": "user", "content": content}]
        entries = whole if message.messages is msgspec.UNSET else list(message.messages)
        at = int(place) if place.isdigit() else 0
        if at >= len(entries):
            return False
        # Its place stays, so that the ids of the others do.
        entries[at] = {}
        is_last = content == (message.messages or whole)[at].get("content")
        shown = msgspec.Raw(b'""') if is_last else message.content
        emptied = msgspec.structs.replace(message, messages=entries, content=shown)
    history.replace_message(chat, ref.index, msgspec.json.encode(emptied))
    return True
