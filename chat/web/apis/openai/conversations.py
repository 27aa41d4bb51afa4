"""/v1/conversations: a conversation is a chat."""

import datetime
import uuid
from typing import Any

import msgspec
from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import InvalidRequest, NotFound
from chat.core.messages import AssistantMessage, Chat, ChatRef
from chat.turns.items import remove_item
from chat.web.apis.openai.base import OpenAiRoutes, list_page
from chat.web.dialects import OBJECT, Body, Schema
from chat.web.dialects.openai.items import read_input, write_items
from chat.web.routes import Route, check_chat_id, json_response

_MAX_ITEMS = 20
_NEW_BODY: Schema = {"metadata": OBJECT, "items": {"type": "array"}}
_ITEMS_BODY: Schema = {"items": {"type": "array"}}
_LIST = ("limit", "order", "after")


class ConversationRoutes(OpenAiRoutes):
    """The Conversations API."""

    def routes(self) -> list[Route]:
        all_, one = "/v1/conversations", "/v1/conversations/<conversation_id>"
        item, absent = f"{one}/items/<item_id>", {"status": 404}
        return [
            *self._both("POST", all_, self.create_conversation, body=_NEW_BODY),
            *self._both("GET", one, self.get_conversation, **absent),
            *self._both("POST", one, self.update_conversation, **absent),
            *self._both("DELETE", one, self.delete_conversation),
            *self._both("GET", f"{one}/items", self.list_items, query=_LIST, **absent),
            *self._both("POST", f"{one}/items", self.add_items, body=_ITEMS_BODY, **absent),
            *self._both("GET", item, self.get_item, **absent),
            *self._both("DELETE", item, self.delete_item, **absent),
        ]

    def create_conversation(self, request: Request, caller: Caller, chat_id: str = "") -> Response:
        """Create a conversation: a new chat."""
        body = Body(request.get_data() or b"{}")
        metadata, entries = body.metadata() or {}, _read_items(body)
        chat = ChatRef(caller.owner, f"conv_{uuid.uuid4().hex}")
        self._chats.create(chat)
        if metadata:
            self._chats.patch(chat, {"metadata": msgspec.json.encode(metadata).decode()})
        if entries:
            self._turns.add(caller, chat, entries)
        return json_response(_write(self._load_conversation(caller, chat.id)))

    def get_conversation(
        self, request: Request, caller: Caller, conversation_id: str, chat_id: str = ""
    ) -> Response:
        """Get a conversation."""
        return json_response(_write(self._load_conversation(caller, conversation_id)))

    def update_conversation(
        self, request: Request, caller: Caller, conversation_id: str, chat_id: str = ""
    ) -> Response:
        """Replace a conversation's metadata."""
        chat = self._load_conversation(caller, conversation_id)
        metadata = Body(request.get_data()).metadata() or {}
        text = msgspec.json.encode(metadata).decode() if metadata else ""
        self._chats.patch(ChatRef(caller.owner, chat.id), {"metadata": text})
        return json_response(_write(self._load_conversation(caller, conversation_id)))

    def delete_conversation(
        self, request: Request, caller: Caller, conversation_id: str, chat_id: str = ""
    ) -> Response:
        """Delete a conversation and everything in it."""
        check_chat_id(conversation_id, "conversation_id")
        self._turns.delete(ChatRef(caller.owner, conversation_id))
        deleted = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
        return json_response(deleted)

    def list_items(
        self, request: Request, caller: Caller, conversation_id: str, chat_id: str = ""
    ) -> Response:
        """List the items of a conversation."""
        return json_response(list_page(request, self._items(caller, conversation_id)))

    def add_items(
        self, request: Request, caller: Caller, conversation_id: str, chat_id: str = ""
    ) -> Response:
        """Add items to a conversation, without asking the model."""
        entries = _read_items(Body(request.get_data()))
        self._load_conversation(caller, conversation_id)
        if not entries:
            raise InvalidRequest("`items` is missing.", param="items", code="missing_field")
        chat = ChatRef(caller.owner, conversation_id)
        ref = self._turns.add(caller, chat, entries)
        items = self._items(caller, conversation_id)
        own = ref.user_message_id.removeprefix("msg_")
        added = [item for item in items if own in item["id"]]
        ends = {"first_id": added[0]["id"], "last_id": added[-1]["id"]} if added else {}
        return json_response({"object": "list", "data": added, "has_more": False, **ends})

    def get_item(
        self,
        request: Request,
        caller: Caller,
        conversation_id: str,
        item_id: str,
        chat_id: str = "",
    ) -> Response:
        """Get an item of a conversation."""
        items = self._items(caller, conversation_id)
        found = [item for item in items if item["id"] == item_id]
        if not found:
            raise NotFound(f"There is no item {item_id}.", param="item_id")
        return json_response(found[0])

    def delete_item(
        self,
        request: Request,
        caller: Caller,
        conversation_id: str,
        item_id: str,
        chat_id: str = "",
    ) -> Response:
        """Delete an item of a conversation."""
        chat = self._load_conversation(caller, conversation_id)
        if not remove_item(self._history, ChatRef(caller.owner, chat.id), item_id):
            raise NotFound(f"There is no item {item_id}.", param="item_id")
        return json_response(_write(chat))

    def _load_conversation(self, caller: Caller, conversation_id: str) -> Chat:
        check_chat_id(conversation_id, "conversation_id")
        chat = self._chats.find_chat(ChatRef(caller.owner, conversation_id))
        if chat is None:
            raise NotFound(f"There is no conversation {conversation_id}.", code="chat_not_found")
        return chat.chat

    def _items(self, caller: Caller, conversation_id: str) -> list[dict[str, Any]]:
        """Every item, oldest first."""
        chat = self._load_conversation(caller, conversation_id)
        messages = self._load_messages(ChatRef(caller.owner, chat.id))
        return [
            item
            for message in messages
            if not _is_empty(message)
            for item in write_items(message, f"_{chat.id}")
        ]


def _read_items(body: Body) -> list[dict[str, Any]]:
    items = body.fields.get("items") or []
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        raise InvalidRequest(f"`items` must be a list of up to {_MAX_ITEMS}.", param="items")
    return read_input(items, "items")


def _is_empty(message: object) -> bool:
    """Whether it only ends a turn in which the model was not asked."""
    if not isinstance(message, AssistantMessage):
        return False
    return not (message.content or message.tool_calls)


def _write(chat: Chat) -> dict[str, Any]:
    created = datetime.datetime.fromisoformat(chat.created_at).timestamp()
    head = {"id": chat.id, "object": "conversation", "created_at": int(created)}
    return head | {"metadata": msgspec.json.decode(chat.metadata)}
