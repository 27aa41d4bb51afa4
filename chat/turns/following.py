"""Follow turns: find the one that a cursor or an id names, and where to go on in it."""

import threading
from collections import Counter
from functools import partial

from chat.core.cursors import END, Cursor
from chat.core.errors import InvalidRequest, NotFound
from chat.core.messages import Ask, ChatRef, TurnRef, find_ref, id_of, read_answer
from chat.core.outcomes import Look
from chat.settings import Settings
from chat.store.history import History
from chat.store.turn_log import TurnLog
from chat.turns.events import running_message
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery
from chat.turns.refusals import too_many

_BEGINNING = Cursor("", 0)


class Following:
    """Makes the readers of this process."""

    def __init__(
        self, history: History, logs: TurnLog, recovery: Recovery, settings: Settings
    ) -> None:
        self._history = history
        self._logs = logs
        self._recovery = recovery
        self._settings = settings
        self._readers: Counter[str] = Counter()  # how many each owner has
        self._lock = threading.Lock()

    def resume(
        self, chat: ChatRef, turn_id: str | None, cursor: Cursor | None, *, strict: bool
    ) -> Reader | None:
        """Follow the turn of the id, else the one of the cursor, else the running, else the newest.

        None if there is none, or nothing to come. A cursor that leads nowhere means the beginning;
        if `strict`, InvalidRequest is raised. Raises NotFound for an unknown id.
        """
        cursor = cursor or _BEGINNING
        look = self._recovery.settle_if_dead(chat)
        ref = self._named(chat, turn_id, look) if turn_id else look.running or _stored(look)
        if ref is None:
            return None
        if cursor.offset == END:
            if cursor.matches(ref) or not (turn_id or _is_later(ref, cursor, look)):
                return None
            cursor = _BEGINNING
        elif cursor.mark and not cursor.matches(ref):
            marked = None if turn_id else self._marked(chat, cursor, look)
            if marked is None and strict:
                raise _no_place()
            ref, cursor = (marked, cursor) if marked else (ref, _BEGINNING)
        look = self._look_at(chat, ref, look)
        return self._follow(chat, ref, look, _offset(ref, look, cursor, strict=strict))

    def join(self, chat: ChatRef, ref: TurnRef, ask: Ask, cursor: Cursor | None) -> Reader:
        """Follow the turn of a message that came again, from where its client was."""
        offset = cursor.offset if cursor and (not cursor.mark or cursor.matches(ref)) else 0
        look = self._look_at(chat, ref, self._history.look(chat)) if ask.stream else None
        return self._follow(chat, ref, look, offset)

    def _named(self, chat: ChatRef, turn_id: str, look: Look) -> TurnRef:
        """A failed turn is not in the history, but for a while its log has the error."""
        ref = find_ref(turn_id) if turn_id.startswith("turn_") else None
        if ref and (
            ref in (look.running, _stored(self._look_at(chat, ref, look)))
            or self._logs.read(chat, ref.nonce, 0, 0)
        ):
            return ref
        raise NotFound(
            "There is no such turn in this chat.", param="turn_id", code="turn_not_found"
        )

    def _marked(self, chat: ChatRef, cursor: Cursor, look: Look) -> TurnRef | None:
        """The turn that a cursor names: an older one, or one that failed and left no messages."""
        stored = _stored(self._history.look(chat, cursor.index + 1))
        failed = TurnRef(cursor.index, look.ended)
        return next((ref for ref in (stored, failed) if ref and cursor.matches(ref)), None)

    def _look_at(self, chat: ChatRef, ref: TurnRef, newest: Look) -> Look:
        """Look at the messages of a turn; `newest` will do if it is running, or the newest."""
        if ref in (newest.running, _stored(newest)):
            return newest
        return self._history.look(chat, ref.index + 1)

    def _follow(self, chat: ChatRef, ref: TurnRef, look: Look | None, offset: int) -> Reader:
        self._enter(chat.owner)
        return Reader(
            chat,
            ref,
            offset,
            _user_message(ref, look) if look else b"",
            history=self._history,
            logs=self._logs,
            recovery=self._recovery,
            settings=self._settings,
            on_leave=partial(self._leave, chat.owner),
        )

    def _enter(self, owner: str) -> None:
        with self._lock:
            if self._readers[owner] >= self._settings.max_readers_per_owner:
                raise too_many("streams are being followed")
            self._readers[owner] += 1

    def _leave(self, owner: str) -> None:
        with self._lock:
            self._readers[owner] -= 1
            if not self._readers[owner]:
                del self._readers[owner]


def _stored(look: Look) -> TurnRef | None:
    """The turn of the message that was looked at."""
    found = find_ref(id_of(look.message)) if look.message else None
    return TurnRef(found.index - 1, found.nonce) if found else None


def _user_message(ref: TurnRef, look: Look) -> bytes:
    if ref == look.running:
        return running_message(look)
    return look.before if ref == _stored(look) else b""


def _offset(ref: TurnRef, look: Look, cursor: Cursor, *, strict: bool) -> int:
    """Where to go on; how long an answer is, is known once it is stored."""
    if not cursor.offset or ref != _stored(look):
        return cursor.offset
    if cursor.offset <= len(read_answer(look.message).content):
        return cursor.offset
    if strict:
        raise _no_place()
    # Of a turn whose instance died, a client may have more than is left.
    return cursor.offset if cursor.mark else 0


def _is_later(ref: TurnRef, cursor: Cursor, look: Look) -> bool:
    """Whether a turn came after the one whose ending the client has."""
    if ref.index >= cursor.index:
        return True
    # It failed and left nothing, or its chat was deleted and began anew.
    failed = TurnRef(cursor.index, look.ended)
    is_new_chat = bool(look.ended) and not cursor.matches(failed)
    return look.revision < cursor.index or (look.revision == cursor.index and is_new_chat)


def _no_place() -> InvalidRequest:
    return InvalidRequest(
        "`after` must be a cursor of this chat, or a number of characters of the answer.",
        param="after",
        code="invalid_cursor",
    )
