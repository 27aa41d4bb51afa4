"""What the families of routes over chats share."""

import itertools
import uuid
from collections.abc import Iterator

from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.messages import AssistantMessage, Chat, ChatRef, UserMessage, read_message
from chat.store.chats import Chats
from chat.store.history import History
from chat.turns.turns import Turns
from chat.web.dialects import Body
from chat.web.headers import idempotency_key
from chat.web.live.answer import Talk
from chat.web.routes import check_chat_id, whole_number

_MAX_CHATS = 1000
_MAX_MESSAGES = 1000
_PAGE = 100


class ChatRoutes:
    """A family of routes over chats."""

    def __init__(self, turns: Turns, history: History, chats: Chats, talk: Talk) -> None:
        self._turns = turns
        self._history = history
        self._chats = chats
        self._talk = talk

    def delete(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Delete a chat and stop its running turn; no error if there is none."""
        self._turns.delete(ChatRef(caller.owner, chat_id))
        return Response(status=204)

    def _list_all(self, request: Request, caller: Caller) -> Iterator[Chat]:
        """The owner's chats, newest first, as many as `limit` in the query allows, each once."""
        limit = whole_number(request, "limit", default=_MAX_CHATS, minimum=1, maximum=_MAX_CHATS)
        return itertools.islice(self._each_chat(caller.owner, min(limit, _PAGE)), limit)

    def _each_chat(self, owner: str, at_once: int) -> Iterator[Chat]:
        seen: set[str] = set()
        after = None
        while True:
            page, after = self._chats.list_chats(owner, at_once, after)
            for chat in page:
                if chat.id not in seen:
                    seen.add(chat.id)
                    yield chat
            if after is None:
                return

    def _load_messages(self, chat: ChatRef) -> list[UserMessage | AssistantMessage]:
        """The newest messages of the active branch, oldest first."""
        self._turns.settle_if_dead(chat)
        page = self._history.load(chat, limit=_MAX_MESSAGES)
        return [read_message(message) for message in page.messages] if page else []


def new_chat_id(request: Request, caller: Caller) -> str:
    """A UUID for a new chat; derived from the Idempotency-Key, so that a retry gets the same one."""
    key = idempotency_key(request)
    name = uuid.uuid4() if key is None else uuid.uuid5(uuid.NAMESPACE_URL, f"{caller.owner}\n{key}")
    return str(name)


def named_chat(request: Request, caller: Caller) -> tuple[str, bool]:
    """The chat that the body names, or a new one, and whether it must exist already."""
    chat_id = Body(request.get_data()).text("conversation_id")
    if not chat_id:
        return new_chat_id(request, caller), False
    check_chat_id(chat_id, "conversation_id")
    return chat_id, True
