"""What is decided about a turn before the model is called."""

import msgspec

from chat.core.messages import Ask, ChatRef
from chat.core.outcomes import Begun


class TurnPlan(msgspec.Struct, frozen=True):
    """What is decided about a turn before the model is called."""

    chat: ChatRef
    begun: Begun
    ask: Ask
    model: str
    prompt_tokens: int  # by estimate
    start: int | None  # None: it is not kept, because the chat has forks
    replayed_bytes: int | None
    parent_id: str | None
    forks: str | None  # None: they stay
