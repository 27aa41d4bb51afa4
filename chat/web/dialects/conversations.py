"""`/conversations`: titles, parent_id, autocontinue."""

from collections.abc import Iterable
from typing import Any

from chat.core.messages import Ask, AssistantMessage, Chat, UserMessage, plain_text
from chat.web.dialects import CONTENT, FLAG, NAME, TITLE, Body, Dialect, Schema
from chat.web.dialects.native import write_event


def read_request(raw: bytes, accept: str) -> Ask:
    """The body of POST /conversations/new and /conversations/<id>/ask; raises InvalidRequest."""
    body = Body(raw)
    return Ask(
        content=body.content("prompt"),
        title=body.title() or None,
        model=body.name("model") or None,
        parent_id=body.name("parent_id") or None,
        autocontinue=body.flag("autocontinue") or False,
    )


def write_answer(answer: AssistantMessage) -> object:
    """A turn's answer."""
    return {"response": _message(answer)}


def write_messages(
    chat_id: str, messages: list[UserMessage | AssistantMessage], model: str | None
) -> object:
    """The messages of GET /conversations/<id>/messages."""
    return [
        _message(m) if isinstance(m, AssistantMessage) else _user_message(chat_id, m, model)
        for m in messages
    ]


def write_conversations(chats: Iterable[Chat]) -> object:
    """The answer of GET /conversations."""
    return [
        {
            "id": chat.id,
            "title": chat.title,
            "create_time": chat.created_at,
            "update_time": chat.updated_at,
            "mapping": None,
            "current_node": None,
        }
        for chat in chats
    ]


def _message(answer: AssistantMessage) -> dict[str, Any]:
    return {
        "author": _author("assistant"),
        "message": answer.content,
        "conversation_id": answer.chat_id,
        "parent_id": answer.parent_id,
        "model": answer.model,
        "finish_details": answer.finish_reason,
        "end_turn": answer.finish_reason == "stop",
        "recipient": "all",
        "citations": [],
    }


def _user_message(chat_id: str, message: UserMessage, model: str | None) -> dict[str, Any]:
    return {
        "author": _author("user"),
        "message": plain_text(message.content),
        "conversation_id": chat_id,
        "parent_id": message.parent_id,
        "model": model,
        "finish_details": None,
        "end_turn": True,
        "recipient": "all",
        "citations": [],
    }


def _author(role: str) -> dict[str, Any]:
    return {"role": role, "name": None, "metadata": {}}


NEW_BODY: Schema = {"prompt": CONTENT, "title": TITLE, "model": NAME, "autocontinue": FLAG}
ASK_BODY: Schema = {"prompt": CONTENT, "parent_id": NAME, "model": NAME, "autocontinue": FLAG}
CONVERSATIONS = Dialect(read_request, write_answer, write_event, answer_status=201)
