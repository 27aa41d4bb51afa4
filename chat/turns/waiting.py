"""Messages that wait for the running turn of their chat, without a thread.

In Redis a chat has one queue for all instances (store/queue.py). Here are the messages of this
process: a flow each. Of those that wait for one chat, the first asks for all of them, twice a second,
who is next, and by that keeps their places in the queue. When a turn ends in this process, the first
one need not ask: it begins at once.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from chat.core.errors import (
    ChatkeepError,
    NotFound,
    StoreUnavailable,
    TurnInProgress,
    UpstreamUnavailable,
)
from chat.core.events import Event
from chat.core.messages import ChatRef
from chat.core.outcomes import Busy
from chat.host.flow import WORK_DUE, DueAt, Wait
from chat.host.shutdown import Shutdown
from chat.store.queue import ChatQueue, QueueView
from chat.turns.producer import Producer
from chat.turns.reader import Reader
from chat.turns.recovery import Recovery

_ASK_AGAIN_SECONDS = 0.5
BUSY = "Another turn of this chat is running."
_DELETED = "The chat was deleted while this message waited."
_SHUTTING_DOWN = "This instance is shutting down; nothing was stored."
log = logging.getLogger("chatkeep")


class Waiting:
    """A message that waits: a flow without events, over once it has `turn`, or an `error`.

    `begin` takes the chat's lease, if it can; `stop` ends the running turn for a message that does
    not wait for it. `wake` is called by other threads when there is work before its time.
    """

    needs_client = True
    max_backlog = 0
    answering = False

    def __init__(
        self,
        chat: ChatRef,
        nonce: str,
        begin: Callable[[], Producer | Reader | Busy],
        stop: Callable[[], object] | None,
        give_up_at: float,
        busy: Busy,
        messages: "WaitingMessages",
    ) -> None:
        self.chat = chat
        self.nonce = nonce
        self.turn: Producer | Reader | None = None
        self.error: ChatkeepError | None = None
        self.wake: Callable[[], object] = lambda: None
        self._begin = begin
        self._stop = stop
        self._give_up_at = give_up_at
        self._messages = messages
        self._wait = DueAt(give_up_at)
        self._refusal: ChatkeepError | None = None
        self._is_next = self.is_urgent and busy.place == 1
        self._busy = busy if self._is_next else None

    @property
    def ended(self) -> ChatkeepError | None:
        """Why it does not begin."""
        return self.error

    @property
    def is_urgent(self) -> bool:
        """Whether it has the running turn stopped."""
        return self._stop is not None

    def waits_for(self) -> Wait:
        now = time.monotonic()
        due = self._is_next or self._refusal or now >= self._wait.at
        return WORK_DUE if due or self._messages.shutdown.is_time(now) else self._wait

    def on_readable(self) -> list[Event]:
        return []

    def work(self) -> list[Event]:
        """Begin, if it is next; else ask who is."""
        try:
            if self._is_next:
                self._try_to_begin()
            else:
                self._ask_who_is_next()
        except ChatkeepError as error:
            self.error = error
            self._messages.remove(self)
            self._messages.turn_ended(self.chat)  # perhaps the chat is free for the next one
        return []

    def leave(self) -> None:
        """Give up the place in the queue; at any time, and more than once."""
        self._messages.remove(self)
        if self.turn is None:
            # Should it fail, the place is lost after a few seconds all the same.
            with contextlib.suppress(StoreUnavailable):
                self._messages.queue.leave(self.chat, self.nonce)

    def ask_at(self, at: float) -> None:
        """When to ask who is next (monotonic seconds); at the latest, it gives up."""
        before, self._wait = self._wait, DueAt(min(at, self._give_up_at))
        if self._wait.at < before.at:
            self.wake()

    def begin_now(self) -> None:
        """It is next."""
        self._is_next = True
        self.wake()

    def refuse(self, error: ChatkeepError) -> None:
        """It need not wait any more."""
        self._refusal = error
        self.wake()

    def _try_to_begin(self) -> None:
        # Meanwhile another one asks for those behind.
        self._messages.remove(self)
        self._is_next = False
        outcome = self._busy or self._begin()
        self._busy = None
        if isinstance(outcome, Busy) and outcome.place == 1 and outcome.ref and self._stop:
            self._stop()
            outcome = self._begin()
        if not isinstance(outcome, Busy):
            self.turn = outcome
            return
        self._check(time.monotonic())
        self._messages.add(self)

    def _ask_who_is_next(self) -> None:
        now = time.monotonic()
        self._check(now)
        try:
            self._messages.ask_who_is_next(self.chat)
        except StoreUnavailable as error:
            if now + _ASK_AGAIN_SECONDS >= self._give_up_at:
                raise
            log.warning("a message waits on: %s", error.message)
            self.ask_at(now + _ASK_AGAIN_SECONDS)

    def _check(self, now: float) -> None:
        """Raises the reason not to wait any longer."""
        if self._refusal:
            raise self._refusal
        if self._messages.shutdown.is_time(now):
            raise UpstreamUnavailable(_SHUTTING_DOWN, retry_after=1)
        if now >= self._give_up_at:
            raise TurnInProgress(BUSY)


class WaitingMessages:
    """Those of this process, by chat."""

    def __init__(self, queue: ChatQueue, recovery: Recovery, shutdown: Shutdown) -> None:
        self.queue = queue
        self.shutdown = shutdown
        self._recovery = recovery
        self._lock = threading.Lock()
        self._chats: dict[ChatRef, _OfOneChat] = {}

    def add(self, message: Waiting) -> None:
        """It waits, from now on."""
        with self._lock:
            self._chats.setdefault(message.chat, _OfOneChat()).add(message)

    def remove(self, message: Waiting) -> None:
        """It does not wait any more."""
        with self._lock:
            found = self._chats.get(message.chat)
            if found and not found.remove(message):
                del self._chats[message.chat]

    def turn_ended(self, chat: ChatRef) -> None:
        """A turn has ended in this process: who is next need not ask. No round trip."""
        if chat not in self._chats:
            return
        with self._lock:
            if found := self._chats.get(chat):
                found.turn_ended()

    def ask_who_is_next(self, chat: ChatRef) -> None:
        """Keep the places of all who wait for a chat; whoever is next begins.

        Ends a running turn that is dead. Raises StoreUnavailable.
        """
        with self._lock:
            found = self._chats.get(chat)
            asking = list(found.messages) if found else []
        view = self.queue.wait(chat, [message.nonce for message in asking])
        if view.is_running and not view.is_alive:
            running = self._recovery.settle_if_dead(chat).running
            view = replace(view, is_running=running is not None)
        with self._lock:
            if found := self._chats.get(chat):
                found.see(view, asking)


class _OfOneChat:
    """Messages in the order in which they are to begin; the first asks who is next."""

    def __init__(self) -> None:
        self.messages: list[Waiting] = []
        self._ask_at = time.monotonic() + _ASK_AGAIN_SECONDS
        self._behind_others = False  # of other instances

    def add(self, message: Waiting) -> None:
        urgent = sum(each.is_urgent for each in self.messages)
        self.messages.insert(urgent if message.is_urgent else len(self.messages), message)
        self._have_first_ask()

    def remove(self, message: Waiting) -> bool:
        """Whether others are left."""
        if message in self.messages:
            self.messages.remove(message)
            self._have_first_ask()
        return bool(self.messages)

    def turn_ended(self) -> None:
        if not self._behind_others:
            self.messages[0].begin_now()

    def see(self, view: QueueView, asking: list[Waiting]) -> None:
        places = {nonce: place for place, nonce in enumerate(view.order)}
        self.messages.sort(key=lambda message: places.get(message.nonce, len(places)))
        lost = [each for each in self.messages if each in asking and each.nonce not in places]
        first = self.messages[0]
        self._behind_others = bool(places) and places.get(first.nonce) != 0
        # One by one, they take new places in the order that they had.
        self._ask_at = time.monotonic() + (0 if len(lost) > 1 else _ASK_AGAIN_SECONDS)
        if not view.exists:
            for message in lost:
                message.refuse(NotFound(_DELETED, code="chat_not_found"))
        elif lost:  # this process was frozen for a while
            lost[0].begin_now()
        if places.get(first.nonce) == 0 and (first.is_urgent or not view.is_running):
            first.begin_now()
        self._have_first_ask()

    def _have_first_ask(self) -> None:
        for i, message in enumerate(self.messages):
            message.ask_at(math.inf if i else self._ask_at)
