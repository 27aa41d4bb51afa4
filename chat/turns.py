"""Begin, resume and stop turns: the whole story.

    begin     one round trip to Redis: the lease, and the history that goes into the prompt
    call      the prompt goes to the model
    relay     bytes from the model -> the pure machine in `turn.py` -> events to the client,
              and in batches to the turn's log                                       (`run.py`)
    commit    one round trip: both messages, or nothing

Somebody else may follow a turn (`reader.py`), stop it, or end it after its instance died
(`recovery.py`). Whoever finds a dead turn in their way ends it.
"""

import time
from collections.abc import Callable

import msgspec

from chat import completions, context
from chat.context import Prompt
from chat.errors import (
    ChatChanged,
    ChatkeepError,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    TurnInProgress,
)
from chat.history import Begun, Busy, Changed, History, Known, Look
from chat.messages import Ask, Repeat, Said, TurnRef, find_ref, id_of, new_nonce, read_answer
from chat.reader import Reader
from chat.recovery import Recovery
from chat.run import Place, Run
from chat.settings import Settings
from chat.shutdown import Shutdown
from chat.streams import Logs, LogWriter
from chat.upstream import Upstream

_ASK_AGAIN_SECONDS = 0.5
_STOP_REASON = {"interrupt": "cancelled", "rollback": "rollback"}
_BUSY = "Another turn of this chat is running."

#: Sleep so many seconds; false when the client has left meanwhile.
Pause = Callable[[float], bool]


class Turns:
    """The turns of all chats."""

    def __init__(
        self,
        history: History,
        logs: Logs,
        writer: LogWriter,
        upstream: Upstream,
        settings: Settings,
        shutdown: Shutdown,
    ) -> None:
        self._history = history
        self._logs = logs
        self._writer = writer
        self._upstream = upstream
        self._settings = settings
        self._shutdown = shutdown
        self._recovery = Recovery(history, logs, settings.gpt_model)

    def begin(
        self,
        owner: str,
        chat_id: str,
        ask: Ask,
        *,
        repeat: Repeat | None,
        revision: int | None,
        pause: Pause,
    ) -> Run | Reader:
        """Start a turn; or, when this one has been asked for before, follow the one that was.

        Raises what the client is to be told, of which nothing remains.
        """
        began_at = time.monotonic()
        said = Said(
            content=ask.content,
            stream=ask.stream,
            model=ask.model,
            system=ask.system,
            metadata=ask.metadata,
            repeat_field=repeat.field if repeat else "",
        )
        outcome = self._take_lease(owner, chat_id, ask, said, repeat, revision, pause)
        if isinstance(outcome, TurnRef):
            return self._follow(owner, chat_id, outcome, 0)
        try:
            prompt = self._build_prompt(outcome, ask)
        except ChatkeepError:
            self._history.drop(
                owner, chat_id, outcome.ref, repeat_field=said.repeat_field, streamed=ask.stream
            )
            raise
        model = ask.model or outcome.model or self._settings.gpt_model
        return Run(
            Place(owner, chat_id, outcome, said, model, prompt.start),
            self._upstream.call(self._encode(model, prompt, ask)),
            history=self._history,
            writer=self._writer,
            settings=self._settings,
            shutdown=self._shutdown,
            store_seconds=time.monotonic() - began_at,
        )

    def resume(self, owner: str, chat_id: str, turn_id: str | None, offset: int) -> Reader | None:
        """Follow a turn from an offset: the one named, else the running, else the newest one.

        None when the chat has none; raises NotFound, or InvalidRequest for an offset past the end.
        """
        look = self._recovery.settle_if_dead(owner, chat_id)
        ref = self._find_turn(owner, chat_id, turn_id, look)
        if ref is None:
            return None
        if not (look.running and look.running.nonce == ref.nonce):
            message = self._history.find_message(owner, chat_id, ref)
            if message is not None and offset > len(read_answer(message).content):
                raise InvalidRequest(
                    "The place to resume at is past the end.", param="after", code="invalid_cursor"
                )
        return self._follow(owner, chat_id, ref, offset)

    def stop(self, owner: str, chat_id: str) -> bytes | None:
        """Stop the running turn, keeping what was said; the message as stored, None if none ran."""
        return self._recovery.stop(owner, chat_id, "cancelled")

    def settle_if_dead(self, owner: str, chat_id: str) -> bool:
        """End a turn whose instance died; whether none is running now."""
        return self._recovery.settle_if_dead(owner, chat_id).running is None

    def preview(self, owner: str, chat_id: str, ask: Ask) -> tuple[str, Prompt]:
        """The model, and exactly what would be sent to it."""
        self._recovery.settle_if_dead(owner, chat_id)
        begun = self._history.peek(owner, chat_id)
        return ask.model or begun.model or self._settings.gpt_model, self._build_prompt(begun, ask)

    def _take_lease(
        self,
        owner: str,
        chat_id: str,
        ask: Ask,
        said: Said,
        repeat: Repeat | None,
        revision: int | None,
        pause: Pause,
    ) -> Begun | TurnRef:
        """Wait for the chat; the turn that has this idempotency key, when there is one."""
        give_up = time.monotonic() + self._settings.queue_seconds
        nonce, said_json = new_nonce(), msgspec.json.encode(said)
        while True:
            outcome = self._history.begin(
                owner,
                chat_id,
                nonce,
                said=said_json,
                streamed=ask.stream,
                repeat=repeat,
                revision=revision,
            )
            match outcome:
                case Begun():
                    return outcome
                case Known(ref, body_hash):
                    return _same_turn(ref, body_hash, repeat)
                case Changed():
                    raise _changed(outcome)
                case Busy(alive=False):
                    self._recovery.settle_if_dead(owner, chat_id)
                case Busy():
                    self._wait_for(owner, chat_id, ask.when_busy, give_up, pause)

    def _wait_for(
        self, owner: str, chat_id: str, when_busy: str, give_up: float, pause: Pause
    ) -> None:
        """Make way for a turn of ours, or wait a while; raises TurnInProgress."""
        if when_busy == "reject" or time.monotonic() >= give_up:
            raise TurnInProgress(_BUSY)
        if when_busy in _STOP_REASON:
            self._recovery.stop(owner, chat_id, _STOP_REASON[when_busy])
        elif not pause(min(_ASK_AGAIN_SECONDS, max(0.0, give_up - time.monotonic()))):
            raise TurnInProgress("The client left while its message was waiting.")

    def _build_prompt(self, begun: Begun, ask: Ask) -> Prompt:
        newest = id_of(begun.messages[-1]) if begun.messages else None
        if ask.parent_id not in (None, newest):
            raise NotFound(
                "`parent_id` is not the newest message of this chat.",
                param="parent_id",
                code="message_not_found",
            )
        system = begun.system if ask.system is None else ask.system
        return context.build(
            system or self._settings.system_prompt,
            begun.messages,
            ask.content,
            start=begun.start,
            max_tokens=self._settings.max_prompt_tokens,
        )

    def _encode(self, model: str, prompt: Prompt, ask: Ask) -> bytes:
        return completions.encode_request(
            model,
            prompt.messages,
            stream=ask.stream,
            temperature=ask.temperature,
            max_tokens=ask.max_tokens,
            openai_itself=self._upstream.openai_itself,
        )

    def _find_turn(
        self, owner: str, chat_id: str, turn_id: str | None, look: Look
    ) -> TurnRef | None:
        if turn_id is None:
            if look.running:
                return look.running
            newest = find_ref(id_of(look.message)) if look.message else None
            return TurnRef(newest.index - 1, newest.nonce) if newest else None
        ref = find_ref(turn_id) if turn_id.startswith("turn_") else None
        if ref and (look.running == ref or self._exists(owner, chat_id, ref)):
            return ref
        raise NotFound(
            "There is no such turn in this chat.", param="turn_id", code="turn_not_found"
        )

    def _exists(self, owner: str, chat_id: str, ref: TurnRef) -> bool:
        """A turn that failed is not in the history, but its log tells of it for a while."""
        found = self._history.find_message(owner, chat_id, ref)
        return found is not None or bool(self._logs.read(owner, chat_id, ref.nonce, 0, 0))

    def _follow(self, owner: str, chat_id: str, ref: TurnRef, offset: int) -> Reader:
        return Reader(
            owner,
            chat_id,
            ref,
            offset,
            history=self._history,
            logs=self._logs,
            recovery=self._recovery,
            keepalive_seconds=self._settings.keepalive_seconds,
            patience_seconds=self._settings.store_patience_seconds,
        )


def _same_turn(ref: TurnRef, body_hash: str, repeat: Repeat | None) -> TurnRef:
    if repeat is None or repeat.body_hash != body_hash:
        raise IdempotencyConflict(
            "This Idempotency-Key was used with another body.", param="Idempotency-Key"
        )
    return ref


def _changed(outcome: Changed) -> ChatChanged:
    return ChatChanged(
        f"The chat is at revision {outcome.revision} by now.",
        revision=outcome.revision,
        messages=[msgspec.Raw(message) for message in outcome.messages],
    )
