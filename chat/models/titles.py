"""Asks the model for a chat's title: once, after the first answer, unless the client gave one.

The only place that uses the openai SDK. Importing it takes a second, so that happens in a thread of
its own, never on the way to an answer.
"""

import logging
import threading

from chat.core.messages import Ask, ChatRef, find_ref, plain_text, read_answer
from chat.core.prompt import estimate_text
from chat.core.usage import Used
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History

_SECONDS = 30.0
_MAX_CHARACTERS = 80
_MAX_SHOWN = 2000
_INSTRUCTIONS = "Give this conversation a title of at most six words. Answer with the title alone."
log = logging.getLogger("chatkeep")


class Titles:
    """Gives new chats a title made by the model."""

    def __init__(self, chats: Chats, history: History, settings: Settings) -> None:
        self._chats = chats
        self._history = history
        self._settings = settings

    def wanted(self, ask: Ask, message: bytes) -> bool:
        """Whether to make one: this was the chat's first turn, and its client gave no title."""
        ref = find_ref(read_answer(message).id)
        return (
            self._settings.titles == "model"
            and ask.title is None
            and ref is not None
            and ref.index == 1
        )

    def make(self, chat: ChatRef, mark: str, ask: Ask, message: bytes) -> None:
        """Start making a title for the chat with this mark; returns at once."""
        threading.Thread(target=self._make, args=(chat, mark, ask, message), daemon=True).start()

    def _make(self, chat: ChatRef, mark: str, ask: Ask, message: bytes) -> None:
        try:
            question, answer = plain_text(ask.content), read_answer(message).content
            title, used = self._ask_model(f"{question[:_MAX_SHOWN]}\n\n{answer[:_MAX_SHOWN]}")
            self._history.book(chat, used)
            if title:
                self._chats.retitle(chat, mark, title)
        except Exception as error:  # a title is not worth more: the chat keeps its short title
            log.warning("the model made no title: %s", type(error).__name__)

    def _ask_model(self, conversation: str) -> tuple[str, Used]:
        import openai

        with openai.OpenAI(
            api_key=self._settings.gpt_api_key or "none",
            base_url=self._settings.openai_base_url,
            timeout=_SECONDS,
        ) as client:
            made = client.chat.completions.create(
                model=self._settings.gpt_model,
                messages=[
                    {"role": "system", "content": _INSTRUCTIONS},
                    {"role": "user", "content": conversation},
                ],
            )
        said, usage = made.choices[0].message.content or "", made.usage
        prompt_tokens = usage.prompt_tokens if usage else estimate_text(conversation)
        completion_tokens = usage.completion_tokens if usage else estimate_text(said)
        text = " ".join(said.strip().strip("\"'“”").split())
        used = Used(self._settings.gpt_model, prompt_tokens, completion_tokens)
        return text[:_MAX_CHARACTERS], used
