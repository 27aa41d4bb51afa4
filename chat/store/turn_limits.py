"""What limits a turn, as arguments of `begin.lua`."""

from chat.core.completions import PromptMessage
from chat.core.messages import Ask
from chat.core.prompt import estimate_text, estimate_tokens
from chat.settings import Settings
from chat.store.store import Argument

_LARGEST_ANSWER = 16_384  # tokens that are reserved where nothing limits the answer


class TurnLimits:
    """The limits of an owner without its own, and what a turn may use."""

    def __init__(self, settings: Settings) -> None:
        limits, all_tokens = settings.limits, settings.global_daily_token_budget
        self._max_output_tokens = settings.max_output_tokens
        self._fixed: dict[str, Argument] = {
            "rates": limits.rates,
            "daily_tokens": limits.daily_token_budget,
            "concurrent_turns": limits.max_concurrent_turns,
            "all_tokens": all_tokens,
            "max_chats": settings.max_chats_per_owner,
            "max_stored": settings.max_stored_bytes_per_owner,
        }
        # Without users and limits, there is nothing to read in an owner's record.
        budgets = (limits.daily_token_budget, limits.max_concurrent_turns, all_tokens)
        self._reads_record = settings.knows_users or any((limits.rates, *budgets))

    def arguments(self, ask: Ask | None) -> dict[str, Argument]:
        """The arguments of `begin` that have to do with limits."""
        most = self._max_output_tokens or _LARGEST_ANSWER
        wanted = ask.max_tokens if ask else None
        answer = min(wanted, most) if wanted and self._max_output_tokens else wanted or most
        counts = ask and self._reads_record
        return {
            **self._fixed,
            "reads_record": "1" if self._reads_record else "",
            "prompt_tokens": _estimate_prompt(ask) if ask and counts else 0,
            "answer_tokens": answer,
        }


def _estimate_prompt(ask: Ask) -> int:
    """The tokens of what is new in the prompt."""
    return estimate_tokens(PromptMessage("user", ask.content)) + estimate_text(ask.system or "")
