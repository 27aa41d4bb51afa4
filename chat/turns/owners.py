"""An owner as a whole: usage, export, erasure."""

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec

from chat.core.limits import read_prices, write_rates
from chat.core.messages import ChatRef
from chat.core.usage import add_up, row_of
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.store.users import Users
from chat.turns.turns import Turns


class Owners:
    """Reads and erases everything of an owner."""

    def __init__(
        self, users: Users, chats: Chats, history: History, turns: Turns, settings: Settings
    ) -> None:
        self._users = users
        self._chats = chats
        self._history = history
        self._turns = turns
        self._settings = settings
        self._prices = read_prices(settings.prices)

    def describe(self, owner: str) -> dict[str, Any]:
        """Its limits, and what it has used today and this month (UTC)."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = self._users.read_usage(owner)
        month = [line for line in lines if line.day[:7] == today[:7]]
        day = [line for line in month if line.day == today]
        usage = {"day": add_up(day, self._prices), "month": add_up(month, self._prices)}
        return {"owner": owner, "limits": self._limits(owner), "usage": usage}

    def usage(self, first: str, last: str) -> Iterator[dict[str, object]]:
        """A row for each owner, day and model, from one day to another, both included."""
        for owner in self._users.all_owners():
            for line in self._users.read_usage(owner):
                if first <= line.day <= last:
                    yield row_of(owner, line, self._prices)

    def export(self, owner: str) -> Iterator[bytes]:
        """Every chat, each followed by its messages, as JSON lines; reads a few messages at a time."""
        # The ids first: however slowly it is read, no chat gets lost that is used meanwhile.
        for chat_id in list(self._chats.list_ids(owner)):
            ref, name = ChatRef(owner, chat_id), chat_id.encode()
            found = self._chats.find_chat(ref)
            if found is None:
                continue
            yield b'{"type":"chat","chat":%b}\n' % msgspec.json.encode(found.chat)
            first = 0
            while messages := self._history.read_on(ref, first):
                first += len(messages)
                for message in messages:
                    yield b'{"type":"message","chat_id":"%b","message":%b}\n' % (name, message)

    def erase(self, owner: str, *, keep_rate_status: bool) -> None:
        """Delete the owner, and all its chats."""
        self._turns.delete_all(owner)
        self._users.forget(owner, keep_rate_status=keep_rate_status)

    def _limits(self, owner: str) -> dict[str, object]:
        own, settings = self._users.limits_of(owner), self._settings
        rates = write_rates(own.get("rate_limit", settings.limits.rates))
        budget = int(own.get("daily_token_budget", settings.daily_token_budget))
        turns = int(own.get("max_concurrent_turns", settings.max_concurrent_turns))
        return {
            "rate_limit": rates,
            "daily_token_budget": budget or None,
            "max_concurrent_turns": turns or None,
            "max_output_tokens": settings.max_output_tokens or None,
            "max_chats": settings.max_chats_per_owner or None,
            "max_stored_bytes": settings.max_stored_bytes_per_owner or None,
        }
