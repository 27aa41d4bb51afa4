"""The queue of a chat in Redis: the messages of all instances that wait for it, in order of arrival.

A message enters it in `History.begin`, and leaves it when it begins or gives up. In between, its
instance says every half second that it still waits; one that is silent for three loses its place.
"""

import msgspec

from chat.core.messages import ChatRef
from chat.store.keyspace import chat_key, waiting_key
from chat.store.store import Store


class QueueView(msgspec.Struct, frozen=True):
    """A chat as those see it who wait for it; `order` are their nonces, the next one first."""

    is_running: bool
    is_alive: bool
    exists: bool
    order: list[str]


class ChatQueue:
    """Keeps the places of messages, and gives them up. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wait(self, chat: ChatRef, nonces: list[str]) -> QueueView:
        """These still wait: see who is next. One round trip."""
        _, turn, left_ms, exists, order = self._store.run("wait", self._keys(chat), nonces=nonces)
        order = [nonce.decode() for nonce in order]
        return QueueView(bool(turn), left_ms > 0, bool(exists), order)

    def leave(self, chat: ChatRef, nonce: str) -> None:
        """This one does not wait any more."""
        self._store.run("leave_queue", self._keys(chat), nonce=nonce)

    def hold(self, chat: ChatRef) -> None:
        """The chat is to be deleted: when its running turn is stopped, none shall begin."""
        self._store.run("hold_queue", {"chat": chat_key(chat)})

    def _keys(self, chat: ChatRef) -> dict[str, str]:
        return {"chat": chat_key(chat), "waiting": waiting_key(chat.owner)}
