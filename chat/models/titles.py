"""Asks the model for a chat's title: once, after the first answer, unless the client gave one.

The only place that uses the openai SDK. Importing it takes a second, so that happens in a thread of
its own, never on the way to an answer.
"""

import logging
import threading

from chat.core.messages import Ask, ChatRef, find_ref, plain_text, read_answer
from chat.settings import Settings
from chat.store.chats import Chats

_SECONDS = 30.0
_MAX_CHARACTERS = 80
_MAX_SHOWN = 2000
_INSTRUCTIONS = "Give this conversation a title of at most six words. Answer with the title alone."
log = logging.getLogger("chatkeep")


class Titles:
    """Gives new chats a title made by the model."""

    def __init__(self, chats: Chats, settings: Settings) -> None:
        self._chats = chats
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

    def make(self, chat: ChatRef, ask: Ask, message: bytes) -> None:
        """Start making a title; returns at once."""
        threading.Thread(target=self._make, args=(chat, ask, message), daemon=True).start()

    def _make(self, chat: ChatRef, ask: Ask, message: bytes) -> None:
        try:
            question, answer = plain_text(ask.content), read_answer(message).content
            title = self._ask_model(f"{question[:_MAX_SHOWN]}\n\n{answer[:_MAX_SHOWN]}")
            if title:
                self._chats.retitle(chat, title)
        except Exception as error:  # a title is not worth more: the chat keeps its short title
            log.warning("the model made no title: %s", type(error).__name__)

    def _ask_model(self, conversation: str) -> str:
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
        text = (made.choices[0].message.content or "").strip().strip("\"'“”").strip()
        return " ".join(text.split())[:_MAX_CHARACTERS]
