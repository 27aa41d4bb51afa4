"""Reads the headers of requests."""

import re
from typing import TypeVar

import msgspec
from flask import Request

from chat.core.errors import InvalidRequest
from chat.core.messages import Repeat
from chat.store.vault import Vault

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]{1,64})"|([A-Za-z0-9._-]{1,64})')
_COUNT = re.compile(r"[0-9]{1,9}")
Missing = TypeVar("Missing")


def header(request: Request, name: str, missing: Missing) -> str | Missing:
    """A header, straight from the environ: Flask raises and catches an error per missing header."""
    value: str | Missing = request.environ.get(f"HTTP_{name.upper().replace('-', '_')}", missing)
    return value


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key; raises InvalidRequest."""
    key = header(request, "Idempotency-Key", None)
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest(
            "`Idempotency-Key` must have 1 to 255 printable ASCII characters.",
            param="Idempotency-Key",
        )
    return key


def read_recent(request: Request, owner: str, vault: Vault) -> Repeat | None:
    """As `read_repeat`, for clients that retry without saying so: by the request itself.

    It is the same while its turn runs, or was never delivered; a counted retry is in any case.
    """
    if idempotency_key(request) is not None:
        return read_repeat(request, owner, vault)
    attempt = header(request, "X-Stainless-Retry-Count", "")
    body = b"\n".join([b"recent", request.path.encode(), request.get_data()])
    is_retry = bool(_COUNT.fullmatch(attempt)) and int(attempt) > 0
    return Repeat("", vault.fingerprint(owner, body), look_up=is_retry)


def read_repeat(request: Request, owner: str, vault: Vault) -> Repeat | None:
    """How to recognise a retry: by Idempotency-Key, or by the retry header of the OpenAI SDKs.

    The SDKs send no key, but `X-Stainless-Retry-Count: 0` and up. Only a retry (1 and up) looks for
    the request it repeats: two equal first attempts may be a user who says "yes" twice.
    """
    key = idempotency_key(request)
    attempt = header(request, "X-Stainless-Retry-Count", "")
    if key is None and not _COUNT.fullmatch(attempt):
        return None
    # What it says is compared, not how it is written: the order of keys, blanks, escapes.
    said = msgspec.json.encode(msgspec.json.decode(request.get_data()), order="sorted")
    body_hash = vault.fingerprint(owner, b"body\n" + said)
    if key is not None:
        return Repeat(vault.fingerprint(owner, b"key\n" + key.encode()), body_hash, look_up=True)
    same = "\n".join(["retry", header(request, "Authorization", ""), request.path, body_hash])
    return Repeat(vault.fingerprint(owner, same.encode()), body_hash, look_up=int(attempt) > 0)


def last_event_id(request: Request) -> str:
    """Where an EventSource was when its connection broke; "" at its first request."""
    return header(request, "Last-Event-ID", "")


def read_if_match(request: Request) -> str:
    """The ETag that a turn requires, without its quotes; "" for any. Raises InvalidRequest."""
    text = header(request, "If-Match", "*").strip()
    if text == "*":
        return ""
    match = _ETAG.fullmatch(text)
    if not match:
        raise InvalidRequest("`If-Match` must be the ETag of a chat.", param="If-Match")
    return match[1] or match[2]
