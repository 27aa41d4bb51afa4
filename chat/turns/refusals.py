"""Why a turn is refused, as errors for the client."""

import msgspec

from chat.core.errors import ChatChanged, ChatkeepError, IdempotencyConflict, NotFound, RateLimited
from chat.core.messages import Ask, TurnRef
from chat.core.outcomes import Changed, Crowded, Known, Limited, Over


def same_turn(known: Known, ask: Ask) -> TurnRef:
    """The turn with this idempotency key.

    Raises IdempotencyConflict if it had another body or was taken back, and NotFound if its chat was
    deleted: then the message was delivered once, and is not to run again.
    """
    if ask.repeat is None or ask.repeat.body_hash != known.body_hash:
        raise IdempotencyConflict(
            "This Idempotency-Key was already used with a different body.", param="Idempotency-Key"
        )
    if known.state == "rolled_back":
        raise IdempotencyConflict(
            "The message with this Idempotency-Key was rolled back.", param="Idempotency-Key"
        )
    if not known.chat_exists:
        raise NotFound(
            "The message with this Idempotency-Key was sent to a chat that is deleted.",
            code="chat_not_found",
        )
    return known.ref


def refusal_of(outcome: Changed | Crowded | Over) -> ChatkeepError:
    """Why a turn does not begin that need not try again."""
    match outcome:
        case Changed():
            return changed(outcome)
        case Crowded():
            return too_many("messages are waiting")
        case Over():
            return NotFound("This turn was ended as soon as it had begun.", code="turn_not_found")


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
    is_budget = limited.reason in ("budget", "reserved")
    code = "budget_exhausted" if is_budget else "rate_limited"
    return RateLimited(
        "Rate limit exceeded", code=code, retry_after=seconds, headers=rate_status.headers()
    )


def changed(outcome: Changed) -> ChatChanged:
    """The chat has another revision than If-Match; with the messages that are new."""
    return ChatChanged(
        "The chat is not the one that the ETag in If-Match was made for: it has changed since.",
        etag=outcome.etag,
        messages=[msgspec.Raw(message) for message in outcome.messages],
    )
