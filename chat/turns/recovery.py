"""End a turn from outside: one that is to be stopped, or whose instance died.

Its log is closed to the producer, then read, then committed with the user's message, which Redis has
kept since `begin`. Each step is idempotent, also when several instances do it at once: the log keeps
the first reason, and the first commit wins. If this process dies in between, the next one finishes it.
"""

import time

import msgspec
from msgspec.structs import replace

from chat.core import branches
from chat.core.completions import PromptMessage
from chat.core.errors import NotFound
from chat.core.events import STATUS_OF, Ending, StopReason
from chat.core.messages import Ask, ChatRef, TurnRef, id_of, read_answer, write_assistant_message
from chat.core.outcomes import Finished, LogEnd, Look
from chat.core.prompt import estimate_text, estimate_tokens
from chat.core.usage import Used
from chat.store.history import History
from chat.store.turn_log import TurnLog
from chat.store.turn_log_writer import TurnLogWriter

_STOP_PATIENCE_SECONDS = 1.5  # a producer writes at least once a second while text comes
_STOP_STEP_SECONDS = 0.3
_ask = msgspec.json.Decoder(Ask)


class Recovery:
    """Ends turns that another thread or instance drives, or drove."""

    def __init__(
        self, history: History, logs: TurnLog, writer: TurnLogWriter, default_model: str
    ) -> None:
        self._history = history
        self._logs = logs
        self._writer = writer
        self._default_model = default_model

    def stop(self, chat: ChatRef, reason: StopReason) -> Look | None:
        """Stop the running turn: `cancelled` stores its text, `rollback` drops it.

        Returns the chat with the stored message, if there is one; None if no turn was running. A
        live producer ends its turn itself, so that no text is lost: its next write to the log is refused.
        """
        look = self._history.look(chat)
        ref = look.running
        if ref is None:
            return None
        text, reason = self._logs.stop(chat, ref.nonce, reason)
        self._writer.stop(ref.nonce, reason)
        if look.alive and _ask.decode(look.asked).stream:
            give_up = time.monotonic() + _STOP_PATIENCE_SECONDS
            while time.monotonic() < give_up:
                self._logs.read(chat, ref.nonce, len(text), _STOP_STEP_SECONDS)
                if self._history.look(chat).running != ref:
                    return self._history.look_for(chat, ref)
        return replace(look, message=self.settle(chat, look, reason) or b"")

    def settle(self, chat: ChatRef, look: Look, reason: StopReason) -> bytes | None:
        """End the running turn of `look` now; the stored message, if one is stored."""
        ref = look.running
        assert ref is not None
        ask = _ask.decode(look.asked)
        text, reason = self._logs.stop(chat, ref.nonce, reason)
        if reason == "rollback":
            before = self._parent(chat, ask, ref)[1]
            used = _estimate(self._model(look, ask), ask, text, before)
            self._history.drop(chat, ref, ask, b"", used, rolled_back=True, from_outside=True)
            return None
        if not ask.stored:
            used = _estimate(self._model(look, ask), ask, text, b"")
            self._history.drop(chat, ref, ask, b"", used, from_outside=True)
            return None
        try:
            return self._commit(chat, look, ask, ref, text, reason)
        except NotFound:
            return None  # dropped or deleted meanwhile

    def close(self, chat: ChatRef) -> tuple[str, Used | None]:
        """Close the log of the running turn, whose chat is to be deleted: (its nonce, what it used).

        ("", None) when no turn is running.
        """
        look = self._history.look(chat)
        ref = look.running
        if ref is None:
            return "", None
        ask = _ask.decode(look.asked)
        text, _ = self._logs.stop(chat, ref.nonce, "cancelled")
        self._writer.stop(ref.nonce, "cancelled")
        before = self._parent(chat, ask, ref)[1]
        return ref.nonce, _estimate(self._model(look, ask), ask, text, before)

    def settle_if_dead(self, chat: ChatRef) -> Look:
        """Look at a chat, after ending a turn whose lease has run out."""
        look = self._history.look(chat)
        while look.running and not look.alive:
            self.settle(chat, look, "interrupted")
            look = self._history.look(chat)
        return look

    def _commit(
        self, chat: ChatRef, look: Look, ask: Ask, ref: TurnRef, text: str, ending: Ending
    ) -> bytes:
        parent, before = self._parent(chat, ask, ref)
        model = self._model(look, ask)
        answer = write_assistant_message(
            ref, chat.id, text, model=model, status=STATUS_OF[ending], now_ms=look.now_ms
        )
        finished = Finished(
            ref,
            ask,
            answer,
            LogEnd(ending, len(text), ""),
            _estimate(model, ask, text, before),
            began_ms=look.began_ms,
            now_ms=look.now_ms,
            parent_id=id_of(before) if before else None,
            forks=branches.forks_after(look.forks, ref.index, parent),
            from_outside=True,
            undelivered=ending == "interrupted",
        )
        return self._history.commit(chat, finished)

    def _model(self, look: Look, ask: Ask) -> str:
        return ask.model or look.model or self._default_model

    def _parent(self, chat: ChatRef, ask: Ask, ref: TurnRef) -> tuple[int, bytes]:
        """(index, JSON) of the message that a turn continues; (-1, b"") at the beginning."""
        index = branches.parent_index(ask.parent_id, ref.index)
        parent = -1 if index is None else index
        return parent, self._history.look(chat, parent).message if parent >= 0 else b""


def _estimate(model: str, ask: Ask, text: str, before: bytes) -> Used:
    """The usage of a turn whose producer is gone: the prompt, the user's message, the text so far."""
    usage = read_answer(before).usage if b'"role":"assistant"' in before else None
    prompt = estimate_tokens(PromptMessage("user", ask.content))
    return Used(model, prompt + (usage.total_tokens if usage else 0), estimate_text(text))
