"""Reads the headers of requests."""

import hashlib
import re
from typing import TypeVar

from flask import Request

from chat.core.errors import InvalidRequest
from chat.core.messages import Repeat

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_REVISION = re.compile(r'(?:W/)?"?([0-9]{1,15})"?')
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


def read_repeat(request: Request) -> Repeat | None:
    """How to recognise a retry: by Idempotency-Key, or by the retry header of the OpenAI SDKs.

    The SDKs send no key, but `X-Stainless-Retry-Count: 0` and up. Only a retry (1 and up) looks for
    the request it repeats: two equal first attempts may be a user who says "yes" twice.
    """
    key = idempotency_key(request)
    attempt = header(request, "X-Stainless-Retry-Count", "")
    if key is None and not _COUNT.fullmatch(attempt):
        return None
    body_hash = _hash(request.get_data())
    if key is not None:
        return Repeat(f"k:{_hash(key.encode())}", body_hash, look_up=True)
    credentials = header(request, "Authorization", "")
    same = "\n".join([credentials, request.path, body_hash])
    return Repeat(f"k:{_hash(same.encode())}", body_hash, look_up=int(attempt) > 0)


def last_event_id(request: Request) -> str:
    """Where an EventSource was when its connection broke; "" at its first request."""
    return header(request, "Last-Event-ID", "")


def read_if_match(request: Request) -> int | None:
    """The revision that a turn requires; None for any. Raises InvalidRequest."""
    text = header(request, "If-Match", "*").strip()
    if text == "*":
        return None
    match = _REVISION.fullmatch(text)
    if not match:
        raise InvalidRequest("`If-Match` must be the ETag of a chat.", param="If-Match")
    return int(match[1])


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
