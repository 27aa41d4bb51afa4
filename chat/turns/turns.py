"""Begin, resume and stop turns: the whole story.

    begin     one round trip to Redis: the lease, and the history that goes into the prompt;
              while the chat is busy the message waits                       (`waiting.py`)
    call      the prompt goes to the model
    produce   bytes from the model -> `core/answer.py` -> events to the client, and in
              batches to the turn's log                                       (`producer.py`)
    commit    one round trip: both messages, or nothing

Other requests may follow a turn (`following.py`, `reader.py`), stop it, or end it after its instance died
(`recovery.py`): whoever finds a dead turn ends it."""

import time
from contextlib import nullcontext
from functools import partial

from msgspec.structs import replace

from chat.core import branches
from chat.core.credentials import Caller
from chat.core.cursors import Cursor
from chat.core.entries import Entry
from chat.core.errors import ChatkeepError, InternalError, StoreUnavailable, TurnInProgress
from chat.core.events import StopReason
from chat.core.messages import Ask, ChatRef, TurnRef, WhenBusy, id_of, new_nonce
from chat.core.outcomes import (
    Begun,
    Busy,
    Look,
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
from chat.turns.events import error_json
from chat.turns.following import Following
from chat.turns.items import add_entries
from chat.turns.leases import Leases
from chat.turns.placement import Situation, place_turn
from chat.turns.plan import TurnPlan
from chat.turns.producer import Producer
from chat.turns.prompts import Prompts
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery
from chat.turns.waiting import BUSY, Waiting, WaitingMessages

_CHATS_AT_ONCE = 100
_MAX_TRIES = 20
_MAX_ROOM = 3
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
        self._prompts = Prompts(history, settings)
        self._recovery = Recovery(history, logs, writer, settings.gpt_model)
        self._leases = Leases(history, chats, users, writer, self._recovery)
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
        `sent` may repeat the conversation. Raises ChatkeepError; then nothing is left in Redis.
        """
        nonce = new_nonce()
        turn = self._try_to_begin(caller, chat, ask, cursor, nonce, sent)
        if not isinstance(turn, Busy):
            return turn
        if ask.when_busy == "reject" or not self._settings.queue_seconds:
            raise TurnInProgress(BUSY)
        waited = replace(ask, has_waited=True)
        stop = partial(self._recovery.stop, chat, _STOPS[ask.when_busy])
        message = Waiting(
            chat,
            nonce,
            partial(self._try_to_begin, caller, chat, waited, cursor, nonce, sent),
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
        begun = self._leases.take(caller, chat, ask, nonce)
        if isinstance(begun, Busy):
            return begun
        if isinstance(begun, TurnRef):
            return self._following.join(chat, begun, ask, cursor)
        try:
            with nullcontext() if begun.whole else self._history.large:
                return self._start(chat, begun, ask, sent, began_at)
        except Exception as error:  # whatever it is: nobody would drive this turn
            self._abandon(chat, begun, ask, error)
            raise

    def _start(
        self, chat: ChatRef, begun: Begun, ask: Ask, sent: Sent | None, began_at: float
    ) -> Producer:
        """Call the model for a turn that has begun."""
        branch = self._prompts.find_branch(chat, begun, ask)
        if sent is None:
            prompt = self._prompts.build(begun, branch, ask)
        else:
            found = Situation(chat, begun, branch, self._settings)
            branch, ask, prompt = place_turn(self._history, found, ask, sent)
        parent_id = id_of(branch.messages[-1]) if branch.messages else None
        begun = replace(begun, messages=[])  # what counts of them is in the prompt
        candidates = self._models.open(chat, begun, ask, prompt, parent_id)
        return Producer(
            TurnPlan(
                chat,
                begun,
                ask,
                prompt.tokens,
                prompt.start if branch.linear else None,
                prompt.replayed_bytes if branch.linear else None,
                parent_id,
                branches.forks_after(begun.forks, begun.revision, branch.leaf),
                self._models.max_tokens(begun, ask),
            ),
            candidates,
            history=self._history,
            writer=self._writer,
            settings=self._settings,
            shutdown=self._shutdown,
            store_seconds=time.monotonic() - began_at,
            on_end=partial(self._waiting.turn_ended, chat),
        )

    def _abandon(self, chat: ChatRef, begun: Begun, ask: Ask, error: Exception) -> None:
        known = (
            error
            if isinstance(error, ChatkeepError)
            else InternalError("An internal error occurred.")
        )
        try:
            self._history.drop(chat, begun.ref, ask, error_json(known))
        except StoreUnavailable:
            self._writer.take_back(self._history.take_back(chat, begun.ref, ask))
        self._waiting.turn_ended(chat)

    def add(self, caller: Caller, chat: ChatRef, entries: list[Entry]) -> TurnRef:
        """Add entries to a chat; the model is not asked. Raises ChatkeepError."""
        begin = partial(self._leases.take, caller, chat)
        return add_entries(self._history, chat, entries, begin, self._settings.queue_seconds)

    def resume(
        self, chat: ChatRef, turn_id: str | None, cursor: Cursor | None, *, strict: bool
    ) -> Reader | None:
        """Follow a turn (following.py)."""
        return self._following.resume(chat, turn_id, cursor, strict=strict)

    def note_delivery(self, chat: ChatRef, ref: TurnRef) -> None:
        """Whoever asked for a turn again has its answer."""
        self._history.note_delivery(chat, ref.nonce)

    def stop(self, chat: ChatRef) -> tuple[bytes, str] | None:
        """Stop the running turn and keep its text; what is stored, and the chat's mark.

        None if no turn was running, or nothing is stored.
        """
        look = self._recovery.stop(chat, "cancelled")
        return (look.message, look.mark) if look and look.message else None

    def look(self, chat: ChatRef) -> Look:
        """The running turn, after ending one whose instance died."""
        return self._recovery.settle_if_dead(chat)

    def settle_if_dead(self, chat: ChatRef) -> bool:
        """End a turn whose instance died; whether none is running now."""
        return self.look(chat).running is None

    def delete(self, chat: ChatRef) -> None:
        """Delete a chat, if there is one; a running turn is stopped first, so that its usage counts."""
        self._waiting.queue.hold(chat)
        self._recovery.stop(chat, "cancelled")
        closed, used = "", None
        for _ in range(_MAX_TRIES):
            if self._chats.delete(chat, closed, used):
                return
            closed, used = self._recovery.close(chat)  # it has begun since
        raise TurnInProgress(BUSY)

    def delete_all(self, owner: str) -> None:
        """Delete every chat of an owner."""
        for chat_id in self._chats.list_ids(owner):
            self.delete(ChatRef(owner, chat_id))

    def preview(self, caller: Caller, chat: ChatRef, ask: Ask) -> tuple[str, Prompt]:
        """The model, and exactly what would be sent to it."""
        self._recovery.settle_if_dead(chat)
        begun = self._leases.attempt(caller, chat, "", None)
        assert isinstance(begun, Begun)
        with nullcontext() if begun.whole else self._history.large:
            branch = self._prompts.find_branch(chat, begun, ask)
            return self._models.name(begun, ask), self._prompts.build(begun, branch, ask)

    def check_model(self, model: str) -> None:
        """Raises NotAllowed for a model that may not be asked for; "" is the default one."""
        self._models.check(model)
