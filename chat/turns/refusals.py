"""Why a turn is refused, as errors for the client."""

import msgspec

from chat.core.errors import ChatChanged, IdempotencyConflict, RateLimited
from chat.core.messages import Ask, TurnRef
from chat.core.outcomes import Changed, Known, Limited


def same_turn(known: Known, ask: Ask) -> TurnRef:
    """The turn with this idempotency key. Raises IdempotencyConflict if it had another body."""
    if ask.repeat is None or ask.repeat.body_hash != known.body_hash:
        raise IdempotencyConflict(
            "This Idempotency-Key was already used with a different body.", param="Idempotency-Key"
        )
    return known.ref


def too_many(what: str) -> RateLimited:
    """An owner has as many of something open as it may."""
    return RateLimited(f"Too many {what} already.", code="too_many_waiting", retry_after=1)


def refused(limited: Limited) -> RateLimited:
    """Which limit, and when to try again."""
    rate_status, seconds = limited.rate_status, limited.rate_status.reset_seconds
    if limited.reason == "turns":
        return RateLimited(
            f"Rate limit exceeded: {rate_status.limit} turns are running already.",
            retry_after=seconds,
        )
    code = "budget_exhausted" if limited.reason == "budget" else "rate_limited"
    return RateLimited(
        "Rate limit exceeded", code=code, retry_after=seconds, headers=rate_status.headers()
    )


def changed(outcome: Changed) -> ChatChanged:
    """The chat has another revision than If-Match; with the messages that are new."""
    return ChatChanged(
        f"The chat is already at revision {outcome.revision}.",
        revision=outcome.revision,
        messages=[msgspec.Raw(message) for message in outcome.messages],
    )
