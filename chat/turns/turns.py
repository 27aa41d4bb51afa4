"""Begin, resume and stop turns: the whole story.

    begin     one round trip to Redis: the lease, and the history that goes into the prompt;
              while the chat is busy the message waits                       (`waiting.py`)
    call      the prompt goes to the model
    produce   bytes from the model -> `core/answer.py` -> events to the client, and in
              batches to the turn's log                                       (`producer.py`)
    commit    one round trip: both messages, or nothing

Other requests may follow a turn (`following.py`, `reader.py`), stop it, or end it after its instance died
(`recovery.py`): whoever finds a dead turn in the way ends it.
"""

import time
from functools import partial

from chat.core import branches
from chat.core import prompt as prompts
from chat.core.credentials import Caller
from chat.core.cursors import Cursor
from chat.core.entries import Entry
from chat.core.errors import ChatkeepError, NotFound, TurnInProgress
from chat.core.events import StopReason
from chat.core.messages import Ask, ChatRef, TurnRef, WhenBusy, id_of, new_nonce
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Crowded,
    Known,
    Limited,
    Look,
    NoRecord,
    Outcome,
)
from chat.core.prompt import Prompt
from chat.core.sent import Sent
from chat.host.shutdown import Shutdown
from chat.models.choice import Models
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.store.queue import ChatQueue
from chat.store.turn_log import TurnLog
from chat.store.turn_log_writer import TurnLogWriter
from chat.store.users import Users
from chat.turns.following import Following
from chat.turns.items import ask_to_add, store_added
from chat.turns.placement import Branch, Situation, place_turn, system_of
from chat.turns.plan import TurnPlan
from chat.turns.producer import Producer
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery
from chat.turns.refusals import changed, refused, same_turn, too_many
from chat.turns.waiting import BUSY, Waiting, WaitingMessages

_ASK_AGAIN_SECONDS = 0.5
_CHATS_AT_ONCE = 100
_MAX_OF_A_BRANCH = 2000
# What becomes of the running turn.
_STOPS: dict[WhenBusy, StopReason] = {
    "enqueue": "cancelled",
    "interrupt": "cancelled",
    "rollback": "rollback",
}


class Turns:
    """The turns of all chats."""

    def __init__(
        self,
        history: History,
        chats: Chats,
        logs: TurnLog,
        writer: TurnLogWriter,
        models: Models,
        users: Users,
        settings: Settings,
        shutdown: Shutdown,
        queue: ChatQueue,
    ) -> None:
        self._history = history
        self._users = users
        self._chats = chats
        self._logs = logs
        self._writer = writer
        self._models = models
        self._settings = settings
        self._shutdown = shutdown
        self._recovery = Recovery(history, logs, writer, settings.gpt_model)
        self._waiting = WaitingMessages(queue, self._recovery, shutdown)
        self._following = Following(history, logs, self._recovery, settings)

    def begin(
        self,
        caller: Caller,
        chat: ChatRef,
        ask: Ask,
        cursor: Cursor | None,
        sent: Sent | None = None,
    ) -> Producer | Reader | Waiting:
        """Start a turn, or follow the one that was started with the same idempotency key.

        Its client has that one up to `cursor`. While the chat is busy the message waits, if it may.
        `sent`: what a client sent that may repeat the conversation.
        Raises ChatkeepError; a refused turn leaves nothing in Redis.
        """
        nonce = new_nonce()
        begin = partial(self._try_to_begin, caller, chat, ask, cursor, nonce, sent)
        turn = begin()
        if not isinstance(turn, Busy):
            return turn
        if ask.when_busy == "reject" or not self._settings.queue_seconds:
            raise TurnInProgress(BUSY)
        stop = partial(self._recovery.stop, chat, _STOPS[ask.when_busy])
        message = Waiting(
            chat,
            nonce,
            begin,
            None if ask.when_busy == "enqueue" else stop,
            time.monotonic() + self._settings.queue_seconds,
            turn,
            self._waiting,
        )
        self._waiting.add(message)
        return message

    def _try_to_begin(
        self,
        caller: Caller,
        chat: ChatRef,
        ask: Ask,
        cursor: Cursor | None,
        nonce: str,
        sent: Sent | None,
    ) -> Producer | Reader | Busy:
        began_at = time.monotonic()
        begun = self._take_lease(caller, chat, ask, nonce)
        if isinstance(begun, Busy):
            return begun
        if isinstance(begun, TurnRef):
            return self._following.join(chat, begun, ask, cursor)
        try:
            branch = self._find_branch(chat, begun, ask)
            if sent is None:
                prompt = self._build_prompt(begun, branch, ask)
            else:
                found = Situation(chat, begun, branch, self._settings)
                branch, ask, prompt = place_turn(self._history, found, ask, sent)
            parent_id = id_of(branch.messages[-1]) if branch.messages else None
            model, call = self._models.open(chat, begun, ask, prompt, parent_id)
        except ChatkeepError:
            self._history.drop(chat, begun.ref, ask)
            raise
        return Producer(
            TurnPlan(
                chat,
                begun,
                ask,
                model,
                prompt.tokens,
                prompt.start if branch.linear else None,
                parent_id,
                branches.forks_after(begun.forks, begun.revision, branch.leaf),
            ),
            call,
            history=self._history,
            writer=self._writer,
            settings=self._settings,
            shutdown=self._shutdown,
            store_seconds=time.monotonic() - began_at,
            on_end=partial(self._waiting.turn_ended, chat),
        )

    def add(self, caller: Caller, chat: ChatRef, entries: list[Entry]) -> TurnRef:
        """Add entries to a chat; the model is not asked. Raises ChatkeepError."""
        ask, nonce = ask_to_add(entries), new_nonce()
        give_up_at = time.monotonic() + self._settings.queue_seconds
        while not isinstance(begun := self._take_lease(caller, chat, ask, nonce), Begun):
            if time.monotonic() >= give_up_at:
                raise TurnInProgress(BUSY)
            time.sleep(_ASK_AGAIN_SECONDS)
        return store_added(self._history, chat, begun, ask)

    def resume(
        self, chat: ChatRef, turn_id: str | None, cursor: Cursor | None, *, strict: bool
    ) -> Reader | None:
        """Follow a turn (following.py)."""
        return self._following.resume(chat, turn_id, cursor, strict=strict)

    def stop(self, chat: ChatRef) -> bytes | None:
        """Stop the running turn and keep its text; the stored message, None if no turn was running."""
        return self._recovery.stop(chat, "cancelled")

    def look(self, chat: ChatRef) -> Look:
        """The running turn, after ending one whose instance died."""
        return self._recovery.settle_if_dead(chat)

    def settle_if_dead(self, chat: ChatRef) -> bool:
        """End a turn whose instance died; whether none is running now."""
        return self._recovery.settle_if_dead(chat).running is None

    def delete(self, chat: ChatRef) -> None:
        """Delete a chat, if there is one; a running turn is stopped first, so that its usage counts."""
        self._recovery.stop(chat, "cancelled")
        self._chats.delete(chat)

    def delete_all(self, owner: str) -> None:
        """Delete every chat of an owner."""
        while chats := self._chats.list_chats(owner, _CHATS_AT_ONCE, None)[0]:
            for chat in chats:
                self.delete(ChatRef(owner, chat.id))

    def preview(self, caller: Caller, chat: ChatRef, ask: Ask) -> tuple[str, Prompt]:
        """The model, and exactly what would be sent to it."""
        self._recovery.settle_if_dead(chat)
        begun = self._attempt(caller, chat, "", None)
        assert isinstance(begun, Begun)
        branch = self._find_branch(chat, begun, ask)
        return self._models.name(begun, ask), self._build_prompt(begun, branch, ask)

    def _attempt(self, caller: Caller, chat: ChatRef, nonce: str, ask: Ask | None) -> Outcome:
        outcome = self._history.begin(chat, caller, nonce, ask)
        if isinstance(outcome, NoRecord):
            self._users.create_record(chat.owner)
            outcome = self._history.begin(chat, caller, nonce, ask)
        return outcome

    def _take_lease(
        self, caller: Caller, chat: ChatRef, ask: Ask, nonce: str
    ) -> Begun | TurnRef | Busy:
        """The chat's lease, or the turn with this idempotency key; Busy while others have it."""
        while True:
            outcome = self._attempt(caller, chat, nonce, ask)
            match outcome:
                case Known():
                    return same_turn(outcome, ask)
                case Changed():
                    raise changed(outcome)
                case Crowded():
                    raise too_many("messages are waiting")
                case Limited():
                    self._make_room(outcome)
                case Busy(ref=TurnRef(), alive=False):
                    self._recovery.settle_if_dead(chat)
                case Begun() | Busy():
                    return outcome

    def _make_room(self, limited: Limited) -> None:
        """End dead turns that still count as running; raises RateLimited if there are none."""
        if limited.reason == "turns":
            dead = [turn for turn in limited.running if self._is_over(turn, limited.now_ms)]
            for chat, nonce, _ in dead:
                self._history.release(chat, nonce)
            if dead:
                return
        raise refused(limited)

    def _is_over(self, turn: tuple[ChatRef, str, int], now_ms: int) -> bool:
        chat, nonce, began_ms = turn
        if now_ms - began_ms < self._history.lease_ms:
            return False
        running = self._recovery.settle_if_dead(chat).running
        return running is None or running.nonce != nonce

    def _find_branch(self, chat: ChatRef, begun: Begun, ask: Ask) -> Branch:
        """The messages before the turn; `begin` has read those of a chat without branches."""
        if ask.parent_id is None and not begun.forks:
            return Branch(begun.messages, begun.start, begun.revision - 1, linear=True)
        leaf = branches.parent_index(ask.parent_id, begun.revision)
        ranges = [] if leaf is None else branches.path(branches.read_forks(begun.forks), leaf)
        messages = self._history.read_ranges(chat, branches.newest(ranges, _MAX_OF_A_BRANCH))
        ids = [branches.ROOT, None, *map(id_of, messages[-2:])]
        if leaf is None or ask.parent_id not in ids:
            raise NotFound(
                "`parent_id` is not a message of this chat.",
                param="parent_id",
                code="message_not_found",
            )
        return Branch(messages, branches.length(ranges) - len(messages), leaf, linear=False)

    def _build_prompt(self, begun: Begun, branch: Branch, ask: Ask) -> Prompt:
        return prompts.build(
            system_of(begun, ask, self._settings),
            branch.messages,
            ask.content,
            start=branch.start,
            max_tokens=self._settings.max_prompt_tokens,
        )

    def check_model(self, model: str) -> None:
        """Raises NotAllowed for a model that may not be asked for; "" is the default one."""
        self._models.check(model)
