"""Failures of Redis, as the one fact that callers know: StoreUnavailable.

Its message says what is the matter: an operator has to do one thing about a Redis that is away, and
another about one that is full.
"""

import logging
import re

import msgspec
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from chat.core.errors import StoreUnavailable

log = logging.getLogger("chatkeep")

# RedisClusterException, raised when a cluster has no reachable node, is not a RedisError.
FAILURES = (RedisError, RedisClusterException)


class _Failure(msgspec.Struct, frozen=True):
    """`pattern` is looked for in the type of the error and its text: scripts quote errors."""

    pattern: re.Pattern[str]
    message: str
    retry_seconds: int


def _failure(pattern: str, message: str, retry_seconds: int) -> _Failure:
    return _Failure(re.compile(pattern), message, retry_seconds)


_KNOWN = (
    _failure(r"\bOOM\b|OutOfMemory|capacity quota", "The chat store is full.", 60),
    _failure(r"READONLY|ReadOnly", "The chat store is read-only at the moment.", 5),
    _failure(
        r"max (daily |monthly )?requests? limit",
        "The chat store has used up its requests for now.",
        600,
    ),
    _failure(
        r"max (request|single record) size|invalid bulk length|maximum allowed size",
        "This is too large for the chat store.",
        600,
    ),
    _failure(r"MISCONF", "The chat store cannot write to its disk, so it is read-only.", 60),
    _failure(r"NOREPLICAS", "The chat store has too few replicas to be written to.", 5),
    _failure(r"LOADING|BusyLoading", "The chat store is starting: it is loading its data.", 2),
    _failure(
        r"NOAUTH|WRONGPASS|NOPERM|Authentication|NoPermission|invalid password",
        "The chat store does not accept this server's password.",
        60,
    ),
    _failure(
        r"max(imum)? (number of )?(concurrent )?(clients|connections)",
        "The chat store has no connection left.",
        2,
    ),
)
_AWAY = _failure("", "The chat store cannot be reached.", 1)


def unavailable(what: str, error: Exception) -> StoreUnavailable:
    """The error that callers get for a failed command; the log has the details."""
    text = f"{type(error).__name__} in {what}: {error}"
    failure = next((known for known in _KNOWN if known.pattern.search(text)), _AWAY)
    log.warning("redis: %s %s", failure.message, text)
    return StoreUnavailable(failure.message, retry_after=failure.retry_seconds)


def was_refused(reply: object) -> bool:
    """Whether Redis answered one command of a batch with an error."""
    return isinstance(reply, ResponseError)
