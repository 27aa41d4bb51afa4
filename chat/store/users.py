"""Users: their keys, the limits that are theirs alone, and what they have used.

An owner's record lies in the same slot as its chats, so that the script that begins a turn checks
key and limits in the same round trip. Only hashes of keys are stored. The list of owners lies in
another slot: an owner is added before its record is written and removed after it is deleted, so
that no record is ever missing from the list.
"""

import time
from collections.abc import Iterator

import msgspec

from chat.core.credentials import ANONYMOUS, KEY_REVOKED, Caller, UserKey, make_key, masked
from chat.core.errors import KeyRejected, NotFound
from chat.core.usage import DAY_MS, UsageRow, oldest_day, read_line
from chat.store.keyspace import (
    all_keys_of,
    chats_key,
    gone_key,
    owners_key,
    record_key,
    sizes_key,
    usage_key,
)
from chat.store.list_page import read_list_page
from chat.store.store import Store

LIMITS = ("rate_limit", "daily_token_budget", "max_concurrent_turns")
_PAGE_SIZE = 100


class User(msgspec.Struct, frozen=True):
    """An owner with keys or limits of its own: the newest key, masked, and the limits as stored."""

    id: str
    key: str
    limits: dict[str, str]


class Users:
    """Reads and changes the records of owners, and the list of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, caller: Caller) -> None:
        """Raises KeyRejected, unless the caller's key is valid or it needs none."""
        keys = {"record": record_key(caller.owner)}
        if caller.key_hash and not self._store.run("check", keys, key_hash=caller.key_hash):
            raise KeyRejected(KEY_REVOKED)

    def add(self, owner: str, limits: dict[str, str]) -> UserKey:
        """Give a user a key, the first or a further one."""
        self._list(owner)
        key = make_key(owner)
        self._write(owner, limits, key)
        return key

    def rotate(self, owner: str, old_live_ms: int) -> UserKey:
        """Give a user a new key; older ones stay valid for `old_live_ms`. Raises NotFound."""
        key = make_key(owner)
        if not self._write(owner, {}, key, str(old_live_ms), exists="1"):
            raise _no_such_user()
        return key

    def change(self, owner: str, limits: dict[str, str]) -> None:
        """Set limits of a user's own; an empty one is removed. Raises NotFound."""
        if not self._write(owner, limits, exists="1"):
            raise _no_such_user()

    def delete(self, owner: str) -> None:
        """Delete a user with its keys and limits; its chats stay. Raises NotFound."""
        (gone,) = self._store.run("delete_user", {"record": record_key(owner)})
        if not gone:
            raise _no_such_user()

    def create_record(self, owner: str) -> None:
        """Create the record of an owner who signs in for the first time, or again after erasure."""
        self._list(owner)
        counted = self._read_counted(gone_key(owner))
        # Several turns may be the first: do not overwrite a record that has counted one of them.
        self._write(owner, counted, exists="0")

    def list_users(self) -> Iterator[User]:
        """The owners with a key or limits of their own, newest first."""
        for owner in self._owners():
            user = self._read_user(owner)
            if user.key or user.limits:
                yield user

    def limits_of(self, owner: str) -> dict[str, str]:
        """The limits of an owner's own, as stored."""
        return self._read_user(owner).limits

    def all_owners(self) -> Iterator[str]:
        """Every owner that may have used something; the anonymous one may have no record."""
        yield ANONYMOUS
        yield from (owner for owner in self._owners() if owner != ANONYMOUS)

    def read_usage(self, owner: str) -> list[UsageRow]:
        """A row for each day and model, in the order of first use."""
        oldest = oldest_day(int(time.time() * 1000))
        lines = self._store.run("usage", {"usage": usage_key(owner)}, oldest_day=oldest)
        return [read_line(line.decode()) for line in lines]

    def forget(self, owner: str, *, keep_rate_status: bool) -> None:
        """Delete every key that contains the owner's id.

        `keep_rate_status`: what was counted is kept for a day under a hash of the id, so that an
        owner who can return at once does not reset its limits by erasing itself.
        """
        counted = self._read_counted(record_key(owner))
        if keep_rate_status and any(counted.values()):
            fields = [part for pair in counted.items() for part in pair]
            gone = gone_key(owner)
            self._store.write([("HSET", gone, *fields), ("PEXPIRE", gone, DAY_MS)])
        own = [record_key(owner), usage_key(owner), chats_key(owner), sizes_key(owner)]
        self._store.write([("DEL", key) for key in own])
        # Left by turns that have begun since, or died before their first message was stored.
        self._store.delete_matching(all_keys_of(owner))
        self._store.write([("ZREM", owners_key(), owner)])

    def _list(self, owner: str) -> None:
        self._store.write([("ZADD", owners_key(), "NX", int(time.time() * 1000), owner)])

    def _write(
        self,
        owner: str,
        fields: dict[str, str],
        key: UserKey | None = None,
        old_live_ms: str = "",
        *,
        exists: str = "",
    ) -> bool:
        (done,) = self._store.run(
            "user",
            {"record": record_key(owner)},
            key_hash=key.hash if key else "",
            key_ending=key.ending if key else "",
            old_live_ms=old_live_ms,
            exists=exists,
            fields=[part for pair in fields.items() for part in pair],
        )
        return bool(done)

    def _read_counted(self, key: str) -> dict[str, str]:
        """What is counted of an owner, in its record or after it was erased."""
        names = ("rate", "spent")
        row = self._store.run("describe", {"hashes": [key]}, fields=names)[0]
        values = (value.decode() if value else "" for value in row)
        return dict(zip(names, values, strict=True))

    def _read_user(self, owner: str) -> User:
        row = self._store.run("record", {"record": record_key(owner)})
        fields = {
            name.decode(): value.decode() for name, value in zip(row[::2], row[1::2], strict=True)
        }
        live = [value for name, value in fields.items() if name.startswith("k:")]
        # "0 <ending>" never expires; of the others, the one that expires last.
        live.sort(key=lambda value: (value.startswith("0 "), value))
        key = masked(owner, live[-1].partition(" ")[2]) if live else ""
        return User(owner, key, {name: fields[name] for name in LIMITS if name in fields})

    def _owners(self) -> Iterator[str]:
        after = None
        while True:
            page = read_list_page(self._store, owners_key(), _PAGE_SIZE, after)
            yield from (owner for owner, _ in page.entries)
            if (after := page.next) is None:
                return


def _no_such_user() -> NotFound:
    return NotFound("There is no such user.", param="user_id")
