"""What is decided about a turn before the model is called."""

import msgspec

from chat.core.answer import Answer
from chat.core.events import STATUS_OF, Ending
from chat.core.messages import Ask, ChatRef, write_assistant_message, write_user_message
from chat.core.outcomes import Begun
from chat.core.prompt import estimate_text
from chat.core.usage import Used


class TurnPlan(msgspec.Struct, frozen=True):
    """A turn that is about to start."""

    chat: ChatRef
    begun: Begun
    ask: Ask
    prompt_tokens: int  # by estimate
    start: int | None  # None: it is not kept, because the chat has forks
    replayed_bytes: int | None
    parent_id: str | None
    forks: str | None  # None: they stay
    max_tokens: int | None  # of the whole answer, however many calls it takes

    @property
    def user_message(self) -> bytes:
        """The user's message as it will be stored."""
        begun = self.begun
        return write_user_message(
            begun.ref, self.ask, began_ms=begun.now_ms, parent_id=self.parent_id
        )

    def answer_message(
        self,
        answer: Answer,
        ending: Ending,
        now_ms: int,
        *,
        model: str,
        provider: str,
        reasoning: str,
    ) -> bytes:
        """The answer as it will be stored."""
        return write_assistant_message(
            self.begun.ref,
            self.chat.id,
            answer.text,
            model=model,
            provider=provider,
            reasoning=reasoning,
            status=STATUS_OF[ending],
            now_ms=now_ms,
            finish_reason=answer.finish_reason or ("error" if answer.error else None),
            usage=answer.usage,
            tool_calls=answer.calls.whole() if ending == "completed" else [],
        )

    def may_go_on(self, used_tokens: int) -> bool:
        """Whether there is something left for another call."""
        return self.max_tokens is None or used_tokens < self.max_tokens

    def used(self, answer: Answer, model: str, *, is_stopped: bool) -> Used:
        """What it has used of this model so far, by its own count or else by estimate."""
        if answer.usage:
            return Used(model, answer.usage.prompt_tokens, answer.usage.completion_tokens)
        completion_tokens = estimate_text(answer.received)
        if is_stopped and not self.ask.stream:
            # Nothing of it was seen, and it is paid for: by then it may have said all it may.
            completion_tokens = max(completion_tokens, self.begun.max_tokens)
        return Used(model, self.prompt_tokens, completion_tokens)
