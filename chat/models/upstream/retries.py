"""When a refusal is tried again, and after which pause: as the openai SDK does it."""

import email.utils
import math
import random
import re
from collections.abc import Mapping

MAX_WAIT_SECONDS = 120.0
_RETRIED = frozenset({408, 409, 429})
_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 8.0
# Codes of several providers for: until somebody pays, trying again is useless.
_QUOTA = re.compile(
    rb"insufficient_quota|billing_hard_limit_reached|billing_not_active|insufficient[ _]balance"
    rb"|exceeded_current_quota|insufficient[ _]credit|credit balance is too low"
    rb"|AllocationQuota|out of credit|quota_exhausted",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_REQUEST_IDS = (
    "x-request-id request-id apim-request-id x-ms-request-id x-amzn-requestid"
    " x-goog-request-id x-litellm-call-id x-portkey-trace-id helicone-id cf-ray"
).split()


def is_retried(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a refusal may be tried again; the server's own word counts first."""
    wish = headers.get("x-should-retry", "").lower()
    if wish in ("true", "false"):
        return wish == "true"
    return status in _RETRIED or status >= 500


def is_out_of_quota(status: int, body: bytes) -> bool:
    """Whether the account at the provider has no quota or credit left."""
    return status == 402 or (status in (400, 403, 429) and _QUOTA.search(body) is not None)


def read_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server wants us to wait; None if it does not say. `now`: Unix seconds."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def pause_after(attempts: int) -> float:
    """Seconds before the next attempt, when the server does not say."""
    pause: float = min(_FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), _MAX_PAUSE_SECONDS)
    return pause * random.uniform(0.75, 1.0)


def request_id(headers: Mapping[str, str]) -> str:
    """The id under which the provider finds this request; "" if none looks like one."""
    given = (headers.get(name, "") for name in _REQUEST_IDS)
    return next((found for found in given if _REQUEST_ID.fullmatch(found)), "")
