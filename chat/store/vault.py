"""Encryption at rest of what people and the model say: AES-256-GCM, with a key per owner.

    0xff  <4 bytes: which key>  <12 bytes: nonce>  <ciphertext and tag>

UTF-8 never contains the byte 0xff, so plain text from the time before there was a key is recognised
and read as it is. A stored message keeps its id in front, in plain text, which scripts compare.
The chat is authenticated along with the data: a value copied into another chat does not open.
"""

import functools
import hashlib
import hmac
import secrets
from typing import Any

from chat.core.errors import InternalError
from chat.core.messages import ChatRef
from chat.store.keyspace import chat_key, once_key

_MARK = b"\xff"
_ID_BEGINS = len(b'{"id":"')
_NONCE_BYTES = 12
_HEAD_BYTES = len(_MARK) + 4


class Vault:
    """Seals with the first of its keys, opens with any; without keys, it stores plain text."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:4]: key for key in keys}
        self._newest = next(iter(self._keys), None)
        self._oldest = list(self._keys)[-1] if self._keys else None
        self._cipher = functools.lru_cache(maxsize=1024)(self._derive)
        self._fingerprint_key = functools.lru_cache(maxsize=1024)(self._derive_fingerprint_key)

    def seal(self, chat: ChatRef, data: bytes) -> bytes:
        """Encrypt; empty data stays empty."""
        if self._newest is None or not data:
            return data
        nonce = secrets.token_bytes(_NONCE_BYTES)
        hidden = self._cipher(self._newest, chat.owner).encrypt(
            nonce, data, chat_key(chat).encode()
        )
        return b"".join((_MARK, self._newest, nonce, hidden))

    def open(self, chat: ChatRef, data: bytes) -> bytes:
        """Decrypt, or return plain text as it is; raises InternalError for an unknown key."""
        if data[:1] != _MARK:
            return data
        name, nonce = data[1:_HEAD_BYTES], data[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        if name not in self._keys:
            raise InternalError("This chat is encrypted with a key that is not in ENCRYPTION_KEY.")
        hidden = data[_HEAD_BYTES + _NONCE_BYTES :]
        opened: bytes = self._cipher(name, chat.owner).decrypt(
            nonce, hidden, chat_key(chat).encode()
        )
        return opened

    def seal_message(self, chat: ChatRef, message: bytes) -> bytes:
        """A message as it is stored: its id in plain text, then all of it sealed."""
        if self._newest is None:
            return message
        return message[: _after_id(message)] + self.seal(chat, message)

    def open_message(self, chat: ChatRef, stored: bytes) -> bytes:
        """A message from the form in which it is stored; raises as `open`."""
        sealed_at = _after_id(stored)
        return (
            self.open(chat, stored[sealed_at:])
            if stored[sealed_at : sealed_at + 1] == _MARK
            else stored
        )

    def open_messages(self, chat: ChatRef, stored: list[bytes]) -> list[bytes]:
        """Messages from the form in which they are stored; raises as `open`."""
        # Without encryption, one search in all of them costs less than a look at each.
        if _MARK not in b"".join(stored):
            return stored
        return [self.open_message(chat, message) for message in stored]

    def seal_text(self, chat: ChatRef, text: str) -> str | bytes:
        """Encrypt text, if there is a key."""
        return self.seal(chat, text.encode()) if self._newest else text

    def open_text(self, chat: ChatRef, stored: bytes) -> str:
        """Decrypt text; raises as `open`."""
        return self.open(chat, stored).decode()

    def fingerprint(self, owner: str, data: bytes) -> str:
        """32 hex digits that tell whether two data of an owner are equal, and nothing else.

        The key is derived from the oldest key: to put a new one in front changes no fingerprint.
        """
        return hmac.digest(self._fingerprint_key(owner), data, "sha256")[:16].hex()

    def once_key(self, chat: ChatRef) -> str:
        """The key in Redis of what is remembered of a chat's repeats; it does not contain its id."""
        return once_key(chat.owner, self.fingerprint(chat.owner, b"chat\n" + chat.id.encode()))

    def _derive(self, name: bytes, owner: str) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(_derive_key(self._keys[name], b"chatkeep:" + owner.encode()))

    def _derive_fingerprint_key(self, owner: str) -> bytes:
        info = b"chatkeep-once:" + owner.encode()
        return info if self._oldest is None else _derive_key(self._keys[self._oldest], info)


def _derive_key(key: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived: bytes = HKDF(SHA256(), length=32, salt=None, info=info).derive(key)
    return derived


def _after_id(message: bytes) -> int:
    return message.find(b'"', _ID_BEGINS) + 1
