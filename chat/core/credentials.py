"""Owners, and the user keys that give access to their chats. Pure.

    ck_<owner>_<48 hex digits>

A key names its owner, so that the record to check it against is known before Redis is asked; the
rest is 192 random bits. Redis stores only its hash and finds it by that hash, so that the time of
a comparison reveals nothing about the key.
"""

import hashlib
import re
import secrets
from urllib.parse import quote

import msgspec

ANONYMOUS = "anonymous"
_USER_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_KEY = re.compile(r"ck_([A-Za-z0-9._~-]{1,64})_([0-9a-f]{48})")
# An owner is part of Redis keys: braces (hash tags), % and non-printable characters are quoted.
_SAFE_IN_OWNER = "!$&'()*+,;=@|/?#[]:~"
_SHOWN_CHARACTERS = 4


class Caller(msgspec.Struct, frozen=True):
    """The owner for whom a request is made, and the hash of its key ("": no key needed)."""

    owner: str
    key_hash: str = ""


class UserKey(msgspec.Struct, frozen=True):
    """A new key; `text` is shown once and never stored."""

    text: str
    hash: str
    ending: str


def make_key(owner: str) -> UserKey:
    text = f"ck_{owner}_{secrets.token_hex(24)}"
    return UserKey(text, _hash(text), text[-_SHOWN_CHARACTERS:])


def find_caller(key: str) -> Caller | None:
    """The owner that a user key names, not verified yet; None if it is not a user key."""
    match = _KEY.fullmatch(key)
    return Caller(match[1], _hash(key)) if match else None


def owner_of(subject: str) -> str:
    """The owner for a sign-in service's `sub`; never the anonymous owner."""
    owner = quote(subject, safe=_SAFE_IN_OWNER)
    return f"%{owner}" if owner == ANONYMOUS else owner


def is_user_id(text: str) -> bool:
    return bool(_USER_ID.fullmatch(text)) and text != ANONYMOUS


def same(given: str, secret: str) -> bool:
    """Compare in constant time; an empty secret equals nothing."""
    return bool(secret) and secrets.compare_digest(given.encode(), secret.encode())


def masked(owner: str, ending: str) -> str:
    return f"ck_{owner}_…{ending}"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
