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
from chat.core.credentials import Caller
from chat.core.errors import (
    InvalidRequest,
    KeyRejected,
    NotFound,
    StoreUnavailable,
    TurnInProgress,
)
from chat.core.messages import Ask, ChatRef, TurnRef, find_ref, id_of, new_nonce, read_answer
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Known,
    Limited,
    Look,
    NoRecord,
    Outcome,
    Over,
    Torn,
)
from chat.core.prompt import Prompt
from chat.host.shutdown import Shutdown
from chat.models.choice import Models
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.store.turn_log import TurnLog
from chat.store.turn_log_writer import TurnLogWriter
from chat.store.users import Users
from chat.turns.plan import TurnPlan
from chat.turns.producer import Producer
from chat.turns.prompts import Prompts
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery
from chat.turns.refusals import changed, refused, same_turn

_ASK_AGAIN_SECONDS = 0.5
_CHATS_AT_ONCE = 100
_MAX_TRIES = 20
_MAX_ROOM = 3
_OVER = "This turn was ended as soon as it had begun."
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
        self._prompts = Prompts(history, settings)
        self._shutdown = shutdown
        self._recovery = Recovery(history, logs, writer, settings.gpt_model)

    def begin(self, caller: Caller, chat: ChatRef, ask: Ask, pause: Pause) -> Producer | Reader:
        """Start a turn, or follow the one that was started with the same idempotency key.

        Raises ChatkeepError; a refused turn leaves nothing in Redis.
        """
        began_at = time.monotonic()
        begun = self._take_lease(caller, chat, ask, pause)
        if isinstance(begun, TurnRef):
            return self._follow(chat, begun, 0, self._history.look_for(chat, begun))
        try:
            return self._start(chat, begun, ask, began_at)
        except Exception:  # whatever it is: nobody would drive this turn
            self._abandon(chat, begun, ask)
            raise

    def _start(self, chat: ChatRef, begun: Begun, ask: Ask, began_at: float) -> Producer:
        """Call the model for a turn that has begun."""
        branch = self._prompts.find_branch(chat, begun, ask)
        prompt = self._prompts.build(begun, branch, ask)
        parent_id = id_of(branch.messages[-1]) if branch.messages else None
        model, call = self._models.open(chat, begun, ask, prompt, parent_id)
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
                self._models.max_tokens(begun, ask),
            ),
            call,
            history=self._history,
            writer=self._writer,
            settings=self._settings,
            shutdown=self._shutdown,
            store_seconds=time.monotonic() - began_at,
        )

    def _abandon(self, chat: ChatRef, begun: Begun, ask: Ask) -> None:
        try:
            self._history.drop(chat, begun.ref, ask)
        except StoreUnavailable:
            self._writer.take_back(self._history.take_back(chat, begun.ref, ask))

    def resume(self, chat: ChatRef, turn_id: str | None, offset: int) -> Reader | None:
        """Follow a turn from an offset: the one named, else the running one, else the newest.

        None if the chat has none. Raises NotFound, and InvalidRequest for an offset past the end.
        """
        look = self._recovery.settle_if_dead(chat)
        ref = self._find_turn(chat, turn_id, look)
        if ref is None:
            return None
        if look.running != ref:
            look = self._history.look_for(chat, ref)
            if look.message and offset > len(read_answer(look.message).content):
                raise InvalidRequest(
                    "`after` is past the end of the answer.", param="after", code="invalid_cursor"
                )
        return self._follow(chat, ref, offset, look)

    def stop(self, chat: ChatRef) -> tuple[bytes, str] | None:
        """Stop the running turn and keep its text; what is stored, and the chat's mark.

        None if no turn was running, or nothing is stored.
        """
        look = self._recovery.stop(chat, "cancelled")
        return (look.message, look.mark) if look and look.message else None

    def settle_if_dead(self, chat: ChatRef) -> bool:
        """End a turn whose instance died; whether none is running now."""
        return self._recovery.settle_if_dead(chat).running is None

    def delete(self, chat: ChatRef) -> None:
        """Delete a chat, if there is one; a running turn is stopped first, so that its usage counts."""
        self._recovery.stop(chat, "cancelled")
        closed, used = "", None
        for _ in range(_MAX_TRIES):
            if self._chats.delete(chat, closed, used):
                return
            closed, used = self._recovery.close(chat)  # it has begun since
        raise TurnInProgress(_BUSY)

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
        branch = self._prompts.find_branch(chat, begun, ask)
        return self._models.name(begun, ask), self._prompts.build(begun, branch, ask)

    def _attempt(self, caller: Caller, chat: ChatRef, nonce: str, ask: Ask | None) -> Outcome:
        try:
            outcome = self._history.begin(chat, caller, nonce, ask)
            if isinstance(outcome, NoRecord):
                self._users.create_record(chat.owner)
                outcome = self._history.begin(chat, caller, nonce, ask)
            return outcome
        except (KeyRejected, NotFound):
            raise
        except Exception:  # no answer, or one that cannot be read
            if ask:  # it may have begun, and nobody would drive it
                ref = TurnRef(0, nonce)
                self._writer.take_back(self._history.take_back(chat, ref, ask))
            raise

    def _take_lease(self, caller: Caller, chat: ChatRef, ask: Ask, pause: Pause) -> Begun | TurnRef:
        """Wait for the chat's lease; the turn with this idempotency key, if there is one."""
        give_up = time.monotonic() + self._settings.queue_seconds
        nonce, tries = new_nonce(), 0
        while True:
            outcome = self._attempt(caller, chat, nonce, ask)
            match outcome:
                case Begun():
                    return outcome
                case Known():
                    return same_turn(outcome, ask)
                case Changed():
                    raise changed(outcome)
                case Torn():
                    self._chats.delete(chat)
                case Over():
                    raise NotFound(_OVER, code="turn_not_found")
                case Limited():
                    tries += 1
                    self._make_room(outcome, tries)
                case Busy(alive=False) if ask.when_busy != "rollback":
                    self._recovery.settle_if_dead(chat)
                case Busy():
                    self._wait_for(chat, ask, give_up, pause)

    def _make_room(self, limited: Limited, tries: int) -> None:
        """Settle dead turns, which still hold what they have reserved; raises RateLimited if none."""
        if not limited.dead or tries > _MAX_ROOM:
            raise refused(limited)
        for turn in limited.dead:
            running = self._recovery.settle_if_dead(turn.chat).running
            if running is None or running.nonce != turn.nonce:
                self._history.release(turn)  # of a chat that is lost: else it is free by now

    def _wait_for(self, chat: ChatRef, ask: Ask, give_up: float, pause: Pause) -> None:
        """Stop the running turn or wait a while, as asked; raises TurnInProgress."""
        left = give_up - time.monotonic()
        if ask.when_busy == "reject" or left <= 0:
            raise TurnInProgress(_BUSY)
        if ask.when_busy in ("interrupt", "rollback"):
            self._recovery.stop(chat, "rollback" if ask.when_busy == "rollback" else "cancelled")
        elif not pause(min(_ASK_AGAIN_SECONDS, left)):
            raise TurnInProgress("The client disconnected while its message was queued.")

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

    def _follow(self, chat: ChatRef, ref: TurnRef, offset: int, look: Look) -> Reader:
        return Reader(
            chat,
            ref,
            offset,
            look,
            history=self._history,
            logs=self._logs,
            recovery=self._recovery,
            settings=self._settings,
        )
