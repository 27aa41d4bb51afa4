"""POST /v1/chat/completions: a turn of a chat that is named, else of no chat."""

import time
import uuid

from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.web.apis.openai.base import OpenAiRoutes, never
from chat.web.dialects import Dialect
from chat.web.dialects.openai import chat as chat_dialect
from chat.web.dialects.openai.chat import ChunkWriter, read_chat, write_completion
from chat.web.dialects.openai.errors import translate
from chat.web.routes import Route, check_chat_id


class ChatCompletionRoutes(OpenAiRoutes):
    """Chat Completions."""

    def routes(self) -> list[Route]:
        path, body = "/v1/chat/completions", chat_dialect.BODY
        return self._both("POST", path, self.complete, access="turn", body=body)

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
        dialect = Dialect(never, write_completion, writer.write, translate=translate)
        return self._talk.say(request, caller, dialect, chat_id, ask=ask, sent=asked.sent)
