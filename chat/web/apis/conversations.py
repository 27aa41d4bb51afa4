"""The routes of /conversations: create, ask, read, delete."""

from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import NotFound
from chat.core.messages import ChatRef
from chat.web.apis.base import ChatRoutes, new_chat_id
from chat.web.dialects import conversations
from chat.web.dialects.conversations import CONVERSATIONS
from chat.web.routes import Route, json_response


class ConversationsRoutes(ChatRoutes):
    """The family of /conversations."""

    def routes(self) -> list[Route]:
        one = "/conversations/<chat_id>"
        new, ask = conversations.NEW_BODY, conversations.ASK_BODY
        return [
            Route("GET", "/conversations", self.list_conversations, query=("limit",)),
            Route("POST", "/conversations/new", self.create, access="turn", status=201, body=new),
            Route("POST", f"{one}/ask", self.ask, access="turn", status=201, body=ask),
            Route("GET", f"{one}/messages", self.get_messages),
            Route("DELETE", "/conversations/all", self.delete_all, status=204),
            Route("DELETE", one, self.delete, status=204),
        ]

    def create(self, request: Request, caller: Caller) -> Response:
        """Create a conversation and ask its first question."""
        return self._talk.say(request, caller, CONVERSATIONS, new_chat_id(request, caller))

    def ask(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Ask a question in an existing conversation."""
        return self._talk.say(request, caller, CONVERSATIONS, chat_id, must_exist=True)

    def list_conversations(self, request: Request, caller: Caller) -> Response:
        """List conversations, newest first."""
        return json_response(conversations.write_conversations(self._list_all(request, caller)))

    def get_messages(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """List a conversation's messages, oldest first."""
        chat = ChatRef(caller.owner, chat_id)
        found = self._chats.find_chat(chat)
        if found is None:
            raise NotFound("There is no such conversation.", code="chat_not_found")
        with self._history.large:
            messages = self._load_messages(chat)
            body = conversations.write_messages(chat_id, messages, found.chat.model)
            return json_response(body)

    def delete_all(self, request: Request, caller: Caller) -> Response:
        """Delete all your conversations."""
        self._turns.delete_all(caller.owner)
        return Response(status=204)
