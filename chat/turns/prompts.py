"""What a turn continues, and the prompt that is made of it."""

import msgspec

from chat.core import branches, prompt
from chat.core.errors import NotFound
from chat.core.messages import Ask, ChatRef, id_of
from chat.core.outcomes import Begun
from chat.core.prompt import Prompt
from chat.settings import Settings
from chat.store.history import History

MAX_OF_A_BRANCH = 2000


class Branch(msgspec.Struct, frozen=True):
    """What a turn continues: the newest messages, how many precede them, the index of the last."""

    messages: list[bytes]
    start: int
    leaf: int
    linear: bool


class Prompts:
    """Finds the branch of a turn, and builds its prompt."""

    def __init__(self, history: History, settings: Settings) -> None:
        self._history = history
        self._settings = settings

    def find_branch(self, chat: ChatRef, begun: Begun, ask: Ask) -> Branch:
        """The messages before the turn; `begin` has read those of a chat without branches."""
        max_bytes = self._settings.max_prompt_bytes
        if ask.parent_id is None and not begun.forks:
            messages, newest = begun.messages, begun.revision - 1
            if not begun.whole:
                messages = self._history.read_ranges(chat, [(begun.start, newest)], max_bytes)
            return Branch(messages, begun.revision - len(messages), newest, linear=True)
        leaf = branches.parent_index(ask.parent_id, begun.revision)
        ranges = [] if leaf is None else branches.path(branches.read_forks(begun.forks), leaf)
        ranges_read = branches.newest(ranges, MAX_OF_A_BRANCH)
        messages = self._history.read_ranges(chat, ranges_read, max_bytes)
        ids = [branches.ROOT, None, *map(id_of, messages[-2:])]
        if leaf is None or ask.parent_id not in ids:
            raise NotFound(
                "`parent_id` is not a message of this chat.",
                param="parent_id",
                code="message_not_found",
            )
        return Branch(messages, branches.length(ranges) - len(messages), leaf, linear=False)

    def build(self, begun: Begun, branch: Branch, ask: Ask) -> Prompt:
        """The instructions, the messages of the branch that fit, and the new one."""
        return prompt.build(
            system_of(begun, ask, self._settings),
            branch.messages,
            ask.content,
            start=branch.start,
            max_tokens=self._settings.max_prompt_tokens,
            max_bytes=self._settings.max_prompt_bytes,
        )


def system_of(begun: Begun, ask: Ask, settings: Settings) -> str:
    """The instructions of a chat, or else those of the server."""
    system = begun.system if ask.system is None else ask.system
    return system or settings.system_prompt
