"""Asks the model for a chat's title: once, after the first answer, unless the client gave one.

The only place that uses the openai SDK. Importing it takes a second, so that happens in a thread of
its own, never on the way to an answer.
"""

import logging
import threading
from typing import Any

import msgspec

from chat.core.answer import Answer
from chat.core.completions import ChatRequest, PromptMessage, encode_request
from chat.core.messages import Ask, ChatRef, Usage, find_ref, plain_text, read_answer
from chat.core.prompt import estimate_text
from chat.core.usage import Used
from chat.models.upstream import Upstream
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History

_SECONDS = 30.0
_MAX_CHARACTERS = 80
_MAX_SHOWN = 2000
_INSTRUCTIONS = "Give this conversation a title of at most six words. Answer with the title alone."
_OURS = ("content-type", "accept-encoding")  # the SDK writes and reads what it likes
log = logging.getLogger("chatkeep")


class Titles:
    """Gives new chats a title made by the model."""

    def __init__(
        self, chats: Chats, history: History, upstream: Upstream, settings: Settings
    ) -> None:
        self._chats = chats
        self._history = history
        self._upstream = upstream
        self._settings = settings

    def wanted(self, ask: Ask, message: bytes) -> bool:
        """Whether to make one: this was the chat's first turn, and its client gave no title."""
        if self._settings.titles != "model" or ask.title is not None:
            return False
        answer = read_answer(message)
        ref = find_ref(answer.id)
        return ref is not None and ref.index == 1 and bool(answer.content.strip())

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
        """(the title, "" if the model gives none; what it used)."""
        import openai

        address, headers = self._upstream.address, self._upstream.headers()
        own = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        with openai.OpenAI(
            api_key="none",  # the key is among the headers
            base_url=address.base_url,
            default_query=address.query,
            default_headers={"Authorization": openai.Omit(), **own},  # type: ignore[dict-item]
            timeout=_SECONDS,
        ) as client:
            body: Any = self._write(conversation)
            reply = client.chat.completions.with_raw_response.create(**body)
        return self._read(conversation, reply.content)

    def _read(self, conversation: str, body: bytes) -> tuple[str, Used]:
        """As any answer is read: so without the model's thinking."""
        answer = Answer(stream=False, keepalive_seconds=_SECONDS, now=0.0)
        answer.receive(body, 0.0)
        answer.upstream_ended()
        usage = answer.usage or Usage(estimate_text(conversation), estimate_text(answer.received))
        used = Used(self._settings.gpt_model, usage.prompt_tokens, usage.completion_tokens)
        text = " ".join(answer.text.strip().strip("\"'“”").split())
        return text[:_MAX_CHARACTERS] if answer.ending == "completed" else "", used

    def _write(self, conversation: str) -> Any:
        """The fields of the request, as this model wants them."""
        pairs = (("system", _INSTRUCTIONS), ("user", conversation))
        messages = [
            PromptMessage(role, msgspec.Raw(msgspec.json.encode(text))) for role, text in pairs
        ]
        model = self._settings.gpt_model
        request = ChatRequest(model, messages)
        return msgspec.json.decode(encode_request(request, self._upstream.quirks_of(model)))
