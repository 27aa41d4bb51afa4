"""Users: their keys, the limits that are theirs alone, and what they have used.

An owner's record in Redis lies in the same slot as its chats, so that the script that begins a turn
checks key and limits on the way. Only hashes of keys are kept. The list of owners lies elsewhere;
it is written before an owner's record, and cleared after it.
"""

import time
from collections.abc import Iterator

import msgspec

from chat.core.credentials import ANONYMOUS, Caller, UserKey, make_key, masked
from chat.core.errors import KeyRejected, NotFound
from chat.core.usage import DAY_MS, UsageRow, oldest_day, read_line
from chat.store.keyspace import OWNERS_KEY, all_keys_of, chats_key, gone_key, record_key, usage_key
from chat.store.store import Store

LIMITS = ("rate_limit", "daily_token_budget", "max_concurrent_turns")
_PAGE = 100


class User(msgspec.Struct, frozen=True):
    """Who has keys, or limits of its own: the last key, masked, and those limits as they are stored."""

    id: str
    key: str
    limits: dict[str, str]


class Users:
    """What is asked of Redis about owners."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, caller: Caller) -> None:
        """Raises KeyRejected, unless the caller's key is good or it needs none."""
        place = [record_key(caller.owner)]
        if caller.key_hash and not self._store.run("check", place, caller.key_hash):
            raise KeyRejected("This key is not valid, or not any more.")

    def add(self, owner: str, limits: dict[str, str]) -> UserKey:
        """Give a user a (further) key."""
        self._list(owner)
        key = make_key(owner)
        self._write(owner, limits, key)
        return key

    def rotate(self, owner: str, old_live_ms: int) -> UserKey:
        """Give a user a new key; the others live on for a while. Raises NotFound."""
        key = make_key(owner)
        if not self._write(owner, {}, key, str(old_live_ms), exists="1"):
            raise _no_such_user()
        return key

    def change(self, owner: str, limits: dict[str, str]) -> None:
        """Set limits of a user's own; an empty one is taken away. Raises NotFound."""
        if not self._write(owner, limits, exists="1"):
            raise _no_such_user()

    def delete(self, owner: str) -> None:
        """Forget a user and its keys; its chats stay. Raises NotFound."""
        (gone,) = self._store.write([("DEL", record_key(owner))])
        if not gone:
            raise _no_such_user()

    def create_record(self, owner: str) -> None:
        """Make the record of an owner who signs in for the first time, or again after being erased."""
        self._list(owner)
        rate, spent = self._store.run("describe", [gone_key(owner)], "rate", "spent")[0]
        # Several turns may be the first; one that has been counted by now is not to be forgotten.
        self._write(owner, {"rate": _text(rate), "spent": _text(spent)}, exists="0")

    def list_users(self) -> Iterator[User]:
        """Those who have a record with a key or limits in it, newest first."""
        for owner in self._owners():
            user = self._read_user(owner)
            if user.key or user.limits:
                yield user

    def limits_of(self, owner: str) -> dict[str, str]:
        return self._read_user(owner).limits

    def all_owners(self) -> Iterator[str]:
        """Everybody who may have used something; people without a key have no record without limits."""
        yield ANONYMOUS
        yield from (owner for owner in self._owners() if owner != ANONYMOUS)

    def read_usage(self, owner: str) -> list[UsageRow]:
        """A line for each day and model, in the order of first use."""
        cut = oldest_day(int(time.time() * 1000))
        lines = self._store.run("usage", [usage_key(owner)], cut)
        return [read_line(line.decode()) for line in lines]

    def forget(self, owner: str, *, keep_rate_status: bool) -> None:
        """Remove every key that names the owner.

        `keep_rate_status`: who can come back at once is not to find the limits reset by that.
        """
        rate, spent = self._store.run("describe", [record_key(owner)], "rate", "spent")[0]
        if keep_rate_status and (rate or spent):
            fields = ("rate", _text(rate), "spent", _text(spent))
            gone = gone_key(owner)
            self._store.write([("HSET", gone, *fields), ("PEXPIRE", gone, DAY_MS)])
        own = [record_key(owner), usage_key(owner), chats_key(owner)]
        self._store.write([("DEL", key) for key in own])
        # Turns that began meanwhile, or died before their first message was stored.
        self._store.delete_matching(all_keys_of(owner))
        self._store.write([("ZREM", OWNERS_KEY, owner)])

    def _list(self, owner: str) -> None:
        self._store.write([("ZADD", OWNERS_KEY, "NX", int(time.time() * 1000), owner)])

    def _write(
        self,
        owner: str,
        fields: dict[str, str],
        key: UserKey | None = None,
        old_live_ms: str = "",
        *,
        exists: str = "",
    ) -> bool:
        pairs = [part for pair in fields.items() for part in pair]
        new = (key.hash, key.ending) if key else ("", "")
        place = [record_key(owner)]
        return bool(self._store.run("user", place, *new, old_live_ms, exists, *pairs))

    def _read_user(self, owner: str) -> User:
        row = self._store.run("record", [record_key(owner)])
        fields = {
            name.decode(): value.decode() for name, value in zip(row[::2], row[1::2], strict=True)
        }
        live = [value for name, value in fields.items() if name.startswith("k:")]
        # "0 <ending>" lives for ever; of the others the one that dies last.
        live.sort(key=lambda value: (value.startswith("0 "), value))
        key = masked(owner, live[-1].partition(" ")[2]) if live else ""
        return User(owner, key, {name: fields[name] for name in LIMITS if name in fields})

    def _owners(self) -> Iterator[str]:
        after: tuple[str, str] | None = ("", "")
        while after:
            found = self._store.run("chats", [OWNERS_KEY], _PAGE, *after, 0)
            yield from (owner.decode() for owner in found[::2])
            after = (found[-1].decode(), found[-2].decode()) if len(found) == 2 * _PAGE else None


def _no_such_user() -> NotFound:
    return NotFound("There is no such user.", param="user_id")


def _text(value: bytes | None) -> str:
    return value.decode() if value else ""
