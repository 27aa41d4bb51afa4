"""Failures of Redis, as the one fact that callers know: StoreUnavailable."""

import logging

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from chat.core.errors import StoreUnavailable

log = logging.getLogger("chatkeep")

# RedisClusterException, raised when a cluster has no reachable node, is not a RedisError.
FAILURES = (RedisError, RedisClusterException)


def unavailable(what: str, error: Exception) -> StoreUnavailable:
    """The error that callers get for a failed command; the log has the details."""
    log.warning("redis: %s in %s: %s", type(error).__name__, what, error)
    return StoreUnavailable("The chat store cannot be reached.", retry_after=1)


def was_refused(reply: object) -> bool:
    """Whether Redis answered one command of a batch with an error."""
    return isinstance(reply, ResponseError)
