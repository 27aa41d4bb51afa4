"""What is decided about a turn before the model is called, and its answer as it is stored."""

import msgspec

from chat.core.answer import Answer
from chat.core.events import STATUS_OF
from chat.core.messages import Ask, ChatRef, write_assistant_message
from chat.core.outcomes import Begun


class TurnPlan(msgspec.Struct, frozen=True):
    """What is decided about a turn before the model is called."""

    chat: ChatRef
    begun: Begun
    ask: Ask
    model: str
    prompt_tokens: int  # by estimate
    start: int | None  # None: it is not kept, because the chat has forks
    parent_id: str | None
    forks: str | None  # None: they stay


def write_answer(plan: TurnPlan, turn: Answer, now_ms: int) -> bytes:
    """The assistant's message of a turn that has ended."""
    return write_assistant_message(
        plan.begun.ref,
        plan.chat.id,
        turn.text,
        model=plan.model,
        status=STATUS_OF[turn.ending or "failed"],
        now_ms=now_ms,
        finish_reason=turn.finish_reason or ("error" if turn.error else None),
        usage=turn.usage,
        tool_calls=turn.tool_calls,
        reasoning=turn.reasoning if plan.ask.openai else "",
    )
