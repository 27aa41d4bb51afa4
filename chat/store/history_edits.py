"""Changes of what is kept of a chat, beside the begin and the end of its turns."""

import msgspec

from chat.core.messages import Ask, ChatRef
from chat.core.outcomes import Finished
from chat.store.history_reader import HistoryReader
from chat.store.keyspace import chat_key, history_key


class HistoryEdits(HistoryReader):
    """Changes a running turn, or a stored message."""

    def note_delivery(self, chat: ChatRef, nonce: str) -> None:
        """The answer of a turn, whose client had left, has been delivered after all."""
        self._store.run("deliver", {"chat": chat_key(chat)}, nonce=nonce)

    def amend(self, chat: ChatRef, nonce: str, ask: Ask) -> None:
        """Replace what is kept beside a running turn."""
        asked = self._vault.seal(chat, msgspec.json.encode(ask))
        self._store.run("amend", {"chat": chat_key(chat)}, nonce=nonce, asked=asked)

    def replace_message(self, chat: ChatRef, index: int, message: bytes) -> None:
        """Put another message of the same id in the place of a stored one."""
        sealed = self._vault.seal_message(chat, message)
        self._store.run("replace", {"history": history_key(chat)}, index=index, message=sealed)


def delivery(turn: Finished) -> str | None:
    """What is remembered of a request without a key: whether its client has got the answer."""
    repeat = turn.ask.repeat
    if repeat is None or repeat.field:
        return None
    state = "undelivered" if turn.undelivered else "delivered"
    return f"{repeat.body_hash} {turn.ref.index} {turn.ref.nonce} {state}"
