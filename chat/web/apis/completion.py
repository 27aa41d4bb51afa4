"""The routes of /conversation: create, complete, list."""

import itertools
from collections.abc import Iterator

import msgspec
from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.messages import Chat, ChatRef, timestamp
from chat.web.apis.base import ChatRoutes, new_chat_id
from chat.web.dialects import completion
from chat.web.dialects.completion import COMPLETION
from chat.web.routes import JSON, Route, json_response


class CompletionRoutes(ChatRoutes):
    """The family of /conversation."""

    def routes(self) -> list[Route]:
        one, complete = "/conversation/<chat_id>", "/conversation/completion/<chat_id>"
        return [
            Route("POST", "/conversation", self.create),
            Route("GET", "/conversation", self.list_with_messages, query=("limit",)),
            Route("POST", complete, self.complete, access="turn", body=completion.BODY),
            Route("DELETE", one, self.delete, status=204),
        ]

    def create(self, request: Request, caller: Caller) -> Response:
        """Create an empty conversation."""
        chat = ChatRef(caller.owner, new_chat_id(request, caller))
        created_at = timestamp(self._chats.create(chat))
        return json_response(completion.write_conversation(chat.id, created_at, []))

    def complete(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Send a message to an existing conversation; a stream is plain text."""
        return self._talk.say(request, caller, COMPLETION, chat_id, must_exist=True)

    def list_with_messages(self, request: Request, caller: Caller) -> Response:
        """List conversations with their messages, newest first."""
        pieces = self._write_list(caller.owner, self._list_all(request, caller))
        first = next(pieces)  # so that an early error still gets an HTTP status
        return Response(itertools.chain([first], pieces), content_type=JSON)

    def _write_list(self, owner: str, chats: Iterator[Chat]) -> Iterator[bytes]:
        """A JSON array, one conversation at a time: all of them may be more than memory holds."""
        separator = b"["
        for chat in chats:
            yield separator + self._write_one(owner, chat)
            separator = b","
        yield b"]" if separator == b"," else b"[]"

    def _write_one(self, owner: str, chat: Chat) -> bytes:
        with self._history.large:
            messages = self._load_messages(ChatRef(owner, chat.id))
            written = completion.write_conversation(chat.id, chat.created_at, messages)
            return msgspec.json.encode(written)
