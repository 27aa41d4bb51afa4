"""POST /v1/chat/completions: a turn of a chat that is named, else of no chat."""

import time
import uuid

from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.core.messages import Ask
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.turns.turns import Turns
from chat.web.apis.base import ChatRoutes
from chat.web.dialects import Dialect
from chat.web.dialects.openai import chat as chat_dialect
from chat.web.dialects.openai.chat import ChunkWriter, read_chat, write_completion
from chat.web.dialects.openai.errors import translate
from chat.web.live.answer import Talk
from chat.web.routes import Route, check_chat_id


class ChatCompletionRoutes(ChatRoutes):
    """Chat Completions."""

    def __init__(
        self, turns: Turns, history: History, chats: Chats, talk: Talk, settings: Settings
    ) -> None:
        super().__init__(turns, history, chats, talk)
        self._settings = settings

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                f"{prefix}/v1/chat/completions",
                self.complete,
                access="turn",
                body=chat_dialect.BODY,
                translate=translate,
            )
            for prefix in ("", "/<chat_id>")
        ]

    def complete(self, request: Request, caller: Caller, chat_id: str = "") -> Response:
        """Answer as OpenAI's Chat Completions do; a chat that is named is kept."""
        settings = self._settings
        asked = read_chat(request.get_data(), settings.parameters)
        chat_id = chat_id or asked.chat_id
        if chat_id:
            check_chat_id(chat_id, "metadata.chat_id")
        ask, kept = asked.ask, bool(chat_id)
        if not kept:
            ask, chat_id = replace(ask, stored=False), f"v1-{uuid.uuid4().hex}"
        writer = ChunkWriter(
            ask.model or settings.gpt_model, int(time.time()), include_usage=asked.include_usage
        )
        dialect = Dialect(_never, write_completion, writer.write, translate=translate)
        return self._talk.say(request, caller, dialect, chat_id, ask=ask, sent=asked.sent)


def _never(raw: bytes, accept: str) -> Ask:
    raise AssertionError("the request has been read")
