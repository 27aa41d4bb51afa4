"""Where a turn belongs whose client may have resent the conversation, and what its prompt is."""

import msgspec

from chat.core import branches
from chat.core import prompt as prompts
from chat.core.completions import PromptMessage
from chat.core.matching import is_answer
from chat.core.messages import Ask, ChatRef, find_ref, id_of
from chat.core.outcomes import Begun
from chat.core.prompt import Prompt, PromptLimits
from chat.core.replay import wire_message
from chat.core.sent import Placed, Sent, place, with_new, with_parent
from chat.settings import Settings
from chat.store.history import History
from chat.turns.prompts import MAX_OF_A_BRANCH, Branch, system_of


class Situation(msgspec.Struct, frozen=True):
    """A chat whose turn has begun."""

    chat: ChatRef
    begun: Begun
    branch: Branch
    settings: Settings


def place_turn(
    history: History, found: Situation, ask: Ask, sent: Sent
) -> tuple[Branch, Ask, Prompt]:
    """What the turn continues, the request with what it brings, and the prompt.

    Raises NotFound for a reference to an item that is not there, PromptTooLong, StoreUnavailable.
    """
    branch = whole = found.branch
    if branch.start and not sent.is_next and any(map(is_answer, sent.entries)):
        whole = _load_whole(history, found)
    placed = place(sent, whole.messages)
    placed_ask = with_parent(with_new(ask, placed.new), whole.messages, placed.kept)
    if placed_ask != ask:
        history.amend(found.chat, found.begun.ref.nonce, placed_ask)
    if placed.kept < len(whole.messages):
        branch = _until(whole, placed.kept)
    return branch, placed_ask, _prompt(found, branch, ask, placed)


def _until(branch: Branch, count: int) -> Branch:
    """The branch that ends with the first `count` of its messages."""
    messages = branch.messages[:count]
    last = find_ref(id_of(messages[-1])) if messages else None
    return Branch(messages, branch.start, last.index if last else -1, linear=False)


def _prompt(found: Situation, branch: Branch, ask: Ask, placed: Placed) -> Prompt:
    own: list[PromptMessage] = [*map(wire_message, placed.head)]
    head = own or prompts.instructions(system_of(found.begun, ask, found.settings))
    limits = PromptLimits(found.settings.max_prompt_tokens, found.settings.max_prompt_bytes)
    if placed.as_sent is not None:
        head = [] if own else head
        return prompts.as_sent(
            head, placed.as_sent, branch.messages, start=branch.start, limits=limits
        )
    return prompts.build_from(
        head,
        branch.messages,
        [*map(wire_message, placed.new)],
        start=branch.start,
        limits=limits,
    )


def _load_whole(history: History, found: Situation) -> Branch:
    """A branch from its beginning on, not only what fits a prompt."""
    branch = found.branch
    ranges = branches.path(branches.read_forks(found.begun.forks), branch.leaf)
    newest, max_bytes = branches.newest(ranges, MAX_OF_A_BRANCH), found.settings.max_prompt_bytes
    messages = history.read_ranges(found.chat, newest, max_bytes)
    start = branches.length(ranges) - len(messages)
    return Branch(messages, start, branch.leaf, linear=branch.linear)
