"""Takes the lease of a chat, and ends what is dead and in the way."""

from chat.core.credentials import Caller
from chat.core.errors import KeyRejected, NotFound, QuotaExceeded
from chat.core.messages import Ask, ChatRef, TurnRef
from chat.core.outcomes import (
    Begun,
    Busy,
    Changed,
    Crowded,
    Known,
    Limited,
    NoRecord,
    Outcome,
    Over,
    OverQuota,
    Torn,
)
from chat.store.chats import Chats
from chat.store.history import History
from chat.store.turn_log_writer import TurnLogWriter
from chat.store.users import Users
from chat.turns.recovery import Recovery
from chat.turns.refusals import refusal_of, refused, same_turn

_MAX_ROOM = 3


class Leases:
    """The leases of all chats: who has one may run a turn."""

    def __init__(
        self,
        history: History,
        chats: Chats,
        users: Users,
        writer: TurnLogWriter,
        recovery: Recovery,
    ) -> None:
        self._history = history
        self._chats = chats
        self._users = users
        self._writer = writer
        self._recovery = recovery

    def attempt(self, caller: Caller, chat: ChatRef, nonce: str, ask: Ask | None) -> Outcome:
        """What Redis says to a turn that is to begin; it is taken back if it says nothing."""
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

    def take(self, caller: Caller, chat: ChatRef, ask: Ask, nonce: str) -> Begun | TurnRef | Busy:
        """The chat's lease, or the turn with this idempotency key; Busy while others have it."""
        tries, swept = 0, False
        while True:
            outcome = self.attempt(caller, chat, nonce, ask)
            match outcome:
                case Known():
                    return same_turn(outcome, ask)
                case Changed() | Crowded() | Over():
                    raise refusal_of(outcome)
                case Torn():
                    self._chats.delete(chat)
                case Limited():
                    tries += 1
                    self._make_room(outcome, tries)
                case OverQuota(what=what):
                    if swept:
                        raise QuotaExceeded(what)
                    self._chats.sweep(chat.owner)
                    swept = True
                case Busy(ref=TurnRef(), alive=False):
                    self._end_dead_turn(chat, ask, outcome.place)
                case Begun() | Busy():
                    return outcome

    def _end_dead_turn(self, chat: ChatRef, ask: Ask, place: int) -> None:
        if ask.when_busy == "rollback" and place == 1:
            self._recovery.stop(chat, "rollback")
        else:
            self._recovery.settle_if_dead(chat)

    def _make_room(self, limited: Limited, tries: int) -> None:
        """Settle dead turns, which still hold what they have reserved; raises RateLimited if none."""
        if not limited.dead or tries > _MAX_ROOM:
            raise refused(limited)
        for turn in limited.dead:
            running = self._recovery.settle_if_dead(turn.chat).running
            if running is None or running.nonce != turn.nonce:
                self._history.release(turn)  # of a chat that is lost: else it is free by now
