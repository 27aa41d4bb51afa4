"""The routes of the other systems' APIs: the same chats, in other words."""

import uuid

from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import NotFound
from chat.core.messages import AssistantMessage, Chat, ChatRef, UserMessage, read_message, timestamp
from chat.web.dialects import Body, agents, ask, completion, conversations
from chat.web.dialects.agents import AGENTS
from chat.web.dialects.ask import ASK
from chat.web.dialects.completion import COMPLETION
from chat.web.dialects.conversations import CONVERSATIONS
from chat.web.headers import idempotency_key
from chat.web.live.talk import Routes
from chat.web.routes import Route, check_chat_id, json_response, whole_number

_MAX_CHATS = 1000
_PAGE = 100


class OtherRoutes(Routes):
    """Four other systems' APIs."""

    def routes(self) -> list[Route]:
        new, asked = conversations.NEW_BODY, conversations.ASK_BODY
        limit = ("limit",)
        return [
            Route("GET", "/conversations", self.list_conversations, query=limit),
            Route(
                "POST",
                "/conversations/new",
                self.new_conversation,
                access="turn",
                status=201,
                body=new,
            ),
            Route(
                "POST",
                "/conversations/<chat_id>/ask",
                self.ask_conversation,
                access="turn",
                status=201,
                body=asked,
            ),
            Route("GET", "/conversations/<chat_id>/messages", self.get_messages),
            Route("DELETE", "/conversations/all", self.delete_all, status=204),
            Route("DELETE", "/conversations/<chat_id>", self.delete, status=204),
            Route("POST", "/ask", self.ask, access="turn", body=ask.BODY),
            Route("DELETE", "/conversation/<chat_id>", self.delete, status=204),
            Route("POST", "/conversation", self.create),
            Route("GET", "/conversation", self.list_with_messages, query=limit),
            Route(
                "POST",
                "/conversation/completion/<chat_id>",
                self.complete,
                access="turn",
                body=completion.BODY,
            ),
            Route(
                "POST",
                "/api/ask",
                self.ask_agents,
                AGENTS.write_error,
                access="turn",
                body=agents.BODY,
            ),
        ]

    # /conversations

    def new_conversation(self, request: Request, caller: Caller) -> Response:
        """Make a conversation, and ask its first question."""
        return self._talk.say(request, caller, CONVERSATIONS, _new_chat(request, caller))

    def ask_conversation(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Ask a conversation that exists."""
        return self._talk.say(request, caller, CONVERSATIONS, chat_id, must_exist=True)

    def list_conversations(self, request: Request, caller: Caller) -> Response:
        """All conversations, newest first."""
        return json_response(conversations.write_conversations(self._all_chats(request, caller)))

    def get_messages(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """A conversation's messages."""
        chat = ChatRef(caller.owner, chat_id)
        found = self._chats.find_chat(chat)
        if found is None:
            raise NotFound("There is no such conversation.", code="chat_not_found")
        messages = self._messages(chat)
        return json_response(conversations.write_messages(chat_id, messages, found.model))

    def delete(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Forget a conversation, also when there is none."""
        self._turns.delete(ChatRef(caller.owner, chat_id))
        return Response(status=204)

    def delete_all(self, request: Request, caller: Caller) -> Response:
        """Forget all conversations."""
        self._turns.delete_all(caller.owner)
        return Response(status=204)

    # /ask and /api/ask

    def ask(self, request: Request, caller: Caller) -> Response:
        """Ask a question, in a new conversation or the one named."""
        chat, known = _named_chat(request, caller)
        return self._talk.say(request, caller, ASK, chat, must_exist=known)

    def ask_agents(self, request: Request, caller: Caller) -> Response:
        """Ask a question, in a new conversation or the one named."""
        chat, known = _named_chat(request, caller)
        return self._talk.say(request, caller, AGENTS, chat, must_exist=known)

    # /conversation

    def create(self, request: Request, caller: Caller) -> Response:
        """Make a conversation without messages."""
        chat = ChatRef(caller.owner, _new_chat(request, caller))
        created_at = timestamp(self._chats.create(chat))
        return json_response(completion.write_conversation(chat.id, created_at, []))

    def complete(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Say something in a conversation that exists; a stream is the bare text."""
        return self._talk.say(request, caller, COMPLETION, chat_id, must_exist=True)

    def list_with_messages(self, request: Request, caller: Caller) -> Response:
        """All conversations with their messages, newest first."""
        found = [
            (c, self._messages(ChatRef(caller.owner, c.id)))
            for c in self._all_chats(request, caller)
        ]
        return json_response(completion.write_conversations(found))

    def _all_chats(self, request: Request, caller: Caller) -> list[Chat]:
        limit = whole_number(request, "limit", default=_MAX_CHATS, least=1, most=_MAX_CHATS)
        chats: list[Chat] = []
        after = None
        while True:
            page, after = self._chats.list_chats(
                caller.owner, min(_PAGE, limit - len(chats)), after
            )
            chats += page
            if after is None or len(chats) >= limit:
                return chats

    def _messages(self, chat: ChatRef) -> list[UserMessage | AssistantMessage]:
        self._turns.settle_if_dead(chat)
        page = self._history.load(chat, limit=_MAX_CHATS)
        return [read_message(message) for message in page.messages] if page else []


def _new_chat(request: Request, caller: Caller) -> str:
    """A chat with a new UUID; a request that is sent again names the same one again."""
    key = idempotency_key(request)
    name = uuid.uuid4() if key is None else uuid.uuid5(uuid.NAMESPACE_URL, f"{caller.owner}\n{key}")
    return str(name)


def _named_chat(request: Request, caller: Caller) -> tuple[str, bool]:
    """The conversation that the body names, or a new one, and whether it must exist."""
    chat_id = Body(request.get_data()).text("conversation_id")
    if not chat_id:
        return _new_chat(request, caller), False
    check_chat_id(chat_id, "conversation_id")
    return chat_id, True
