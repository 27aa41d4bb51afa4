"""The routes of /ask: one question, one answer."""

from flask import Request, Response

from chat.core.credentials import Caller
from chat.web.apis.base import ChatRoutes, named_chat
from chat.web.dialects import ask
from chat.web.dialects.ask import ASK
from chat.web.routes import Route


class AskRoutes(ChatRoutes):
    """The family of /ask."""

    def routes(self) -> list[Route]:
        return [Route("POST", "/ask", self.ask, access="turn", body=ask.BODY)]

    def ask(self, request: Request, caller: Caller) -> Response:
        """Ask a question, in a new conversation or in the one named."""
        chat_id, must_exist = named_chat(request, caller)
        return self._talk.say(request, caller, ASK, chat_id, must_exist=must_exist)
