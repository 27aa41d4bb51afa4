"""Owners, and the user keys that open their chats. Pure.

    ck_<owner>_<48 hex digits>

A key carries its owner's id, so that the owner's record is found without a look-up; the rest is 192
random bits. Redis stores only a hash of the key and looks it up by that hash, so that the time of
the comparison reveals nothing about the key.
"""

import hashlib
import re
import secrets
from urllib.parse import quote

import msgspec

ANONYMOUS = "anonymous"
KEY_REVOKED = "This key is invalid or has been revoked."
_USER_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_KEY = re.compile(r"ck_([A-Za-z0-9._~-]{1,64})_([0-9a-f]{48})")
# An owner is part of keys in Redis: no braces (they delimit the hash tag), no %, printable only.
_SAFE_IN_OWNER = "!$&'()*+,;=@|/?#[]:~"
_SHOWN_CHARACTERS = 4


class Caller(msgspec.Struct, frozen=True):
    """The owner a request is for, and the hash of the user key it came with ("": it needs none)."""

    owner: str
    key_hash: str = ""


class UserKey(msgspec.Struct, frozen=True):
    """A new key; `text` is shown once and stored nowhere."""

    text: str
    hash: str
    ending: str


def make_key(owner: str) -> UserKey:
    """A new user key of 192 random bits."""
    text = f"ck_{owner}_{secrets.token_hex(24)}"
    return UserKey(text, _hash(text), text[-_SHOWN_CHARACTERS:])


def find_caller(key: str) -> Caller | None:
    """The caller a user key names; not verified yet. None: it is not a user key."""
    match = _KEY.fullmatch(key)
    return Caller(match[1], _hash(key)) if match else None


def owner_of(subject: str) -> str:
    """The owner for the `sub` of an ID token; never the anonymous owner."""
    owner = quote(subject, safe=_SAFE_IN_OWNER)
    return f"%{owner}" if owner == ANONYMOUS else owner


def is_user_id(text: str) -> bool:
    """Whether the admin API may give this id to a user."""
    return bool(_USER_ID.fullmatch(text)) and text != ANONYMOUS


def same(given: str, secret: str) -> bool:
    """Compare in constant time; nothing equals an empty secret."""
    return bool(secret) and secrets.compare_digest(given.encode(), secret.encode())


def masked(owner: str, ending: str) -> str:
    """A user key as it may be shown: its owner and its last characters."""
    return f"ck_{owner}_…{ending}"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
