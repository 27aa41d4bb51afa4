"""Begin, resume and stop turns: the whole story.

    begin     one round trip to Redis: the lease, and the history that goes into the prompt
    call      the prompt goes to the model
    produce   bytes from the model -> `core/answer.py` -> events to the client, and in
              batches to the turn's log                                       (`producer.py`)
    commit    one round trip: both messages, or nothing

Other requests may follow a turn (`reader.py`), stop it, or end it after its instance died
(`recovery.py`): whoever finds a dead turn in the way ends it.
"""

import time
from collections.abc import Callable

from chat.core import branches
from chat.core import prompt as prompts
from chat.core.credentials import Caller
from chat.core.entries import Entry
from chat.core.errors import (
    ChatkeepError,
    InvalidRequest,
    NotFound,
    TurnInProgress,
)
from chat.core.messages import Ask, ChatRef, TurnRef, find_ref, id_of, new_nonce, read_answer
from chat.core.outcomes import Begun, Busy, Changed, Known, Limited, Look, NoRecord, Outcome
from chat.core.prompt import Prompt
from chat.core.sent import Sent
from chat.host.shutdown import Shutdown
from chat.models.choice import Models
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.store.turn_log import TurnLog
from chat.store.turn_log_writer import TurnLogWriter
from chat.store.users import Users
from chat.turns.items import ask_to_add, store_added
from chat.turns.placement import Branch, Situation, place_turn, system_of
from chat.turns.producer import Producer, TurnPlan
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery
from chat.turns.refusals import changed, refused, same_turn

_ASK_AGAIN_SECONDS = 0.5
_CHATS_AT_ONCE = 100
_MAX_OF_A_BRANCH = 2000
_BUSY = "Another turn of this chat is running."

#: Sleep so many seconds; false when the client has left meanwhile.
Pause = Callable[[float], bool]


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

    def begin(
        self, caller: Caller, chat: ChatRef, ask: Ask, pause: Pause, sent: Sent | None = None
    ) -> Producer | Reader:
        """Start a turn, or follow the one that was started with the same idempotency key.

        `sent`: what a client sent that may repeat the conversation. Raises ChatkeepError; a refused
        turn leaves nothing in Redis.
        """
        began_at = time.monotonic()
        begun = self._take_lease(caller, chat, ask, pause)
        if isinstance(begun, TurnRef):
            return self._follow(chat, begun, 0)
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
        )

    def add(self, caller: Caller, chat: ChatRef, entries: list[Entry], pause: Pause) -> TurnRef:
        """Add entries to a chat; the model is not asked. Raises ChatkeepError."""
        ask = ask_to_add(entries)
        begun = self._take_lease(caller, chat, ask, pause)
        assert isinstance(begun, Begun)
        return store_added(self._history, chat, begun, ask)

    def resume(self, chat: ChatRef, turn_id: str | None, offset: int) -> Reader | None:
        """Follow a turn from an offset: the one named, else the running one, else the newest.

        None if the chat has none. Raises NotFound, and InvalidRequest for an offset past the end.
        """
        look = self._recovery.settle_if_dead(chat)
        ref = self._find_turn(chat, turn_id, look)
        if ref is None:
            return None
        if not (look.running and look.running.nonce == ref.nonce):
            message = self._history.find_message(chat, ref)
            if message is not None and offset > len(read_answer(message).content):
                raise InvalidRequest(
                    "`after` is past the end of the answer.", param="after", code="invalid_cursor"
                )
        return self._follow(chat, ref, offset)

    def stop(self, chat: ChatRef) -> bytes | None:
        """Stop the running turn and keep its text; the stored message, None if no turn was running."""
        return self._recovery.stop(chat, "cancelled")

    def look(self, chat: ChatRef) -> Look:
        """A chat's running turn, if there is one."""
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

    def _take_lease(self, caller: Caller, chat: ChatRef, ask: Ask, pause: Pause) -> Begun | TurnRef:
        """Wait for the chat's lease; the turn with this idempotency key, if there is one."""
        give_up = time.monotonic() + self._settings.queue_seconds
        nonce = new_nonce()
        while True:
            outcome = self._attempt(caller, chat, nonce, ask)
            match outcome:
                case Begun():
                    return outcome
                case Known():
                    return same_turn(outcome, ask)
                case Changed():
                    raise changed(outcome)
                case Limited():
                    self._make_room(outcome)
                case Busy(alive=False):
                    self._recovery.settle_if_dead(chat)
                case Busy():
                    self._wait_for(chat, ask, give_up, pause)

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

    def _wait_for(self, chat: ChatRef, ask: Ask, give_up: float, pause: Pause) -> None:
        """Stop the running turn or wait a while, as asked; raises TurnInProgress."""
        left = give_up - time.monotonic()
        if ask.when_busy == "reject" or left <= 0:
            raise TurnInProgress(_BUSY)
        if ask.when_busy in ("interrupt", "rollback"):
            self._recovery.stop(chat, "rollback" if ask.when_busy == "rollback" else "cancelled")
        elif not pause(min(_ASK_AGAIN_SECONDS, left)):
            raise TurnInProgress("The client disconnected while its message was queued.")

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

    def _find_turn(self, chat: ChatRef, turn_id: str | None, look: Look) -> TurnRef | None:
        if turn_id is None:
            if look.running:
                return look.running
            newest = find_ref(id_of(look.message)) if look.message else None
            return TurnRef(newest.index - 1, newest.nonce) if newest else None
        ref = find_ref(turn_id) if turn_id.startswith("turn_") else None
        if ref and (look.running == ref or self._exists(chat, ref)):
            return ref
        raise NotFound(
            "There is no such turn in this chat.", param="turn_id", code="turn_not_found"
        )

    def _exists(self, chat: ChatRef, ref: TurnRef) -> bool:
        """A failed turn is not in the history, but for a while its log has the error."""
        found = self._history.find_message(chat, ref)
        return found is not None or bool(self._logs.read(chat, ref.nonce, 0, 0))

    def _follow(self, chat: ChatRef, ref: TurnRef, offset: int) -> Reader:
        return Reader(
            chat,
            ref,
            offset,
            history=self._history,
            logs=self._logs,
            recovery=self._recovery,
            settings=self._settings,
        )
