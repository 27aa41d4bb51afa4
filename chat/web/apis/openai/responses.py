"""/v1/responses: a response is a turn of a chat."""

import time
import uuid
from typing import Any

import msgspec
from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.core.cursors import Cursor
from chat.core.entries import turn_of
from chat.core.errors import InvalidRequest, NotFound
from chat.core.messages import (
    Ask,
    AssistantMessage,
    ChatRef,
    TurnRef,
    UserMessage,
    find_ref,
    read_message,
)
from chat.host.flow import run_to_end
from chat.web.apis.openai.base import OpenAiRoutes, list_page, never
from chat.web.dialects import Dialect
from chat.web.dialects.openai import responses as dialect
from chat.web.dialects.openai.chat import created_of
from chat.web.dialects.openai.errors import translate
from chat.web.dialects.openai.items import write_items
from chat.web.dialects.openai.response_events import ResponseWriter
from chat.web.dialects.openai.responses import empty_response, read_response, write_response
from chat.web.routes import Route, check_chat_id, json_response, whole_number

_OWN_CHAT = "resp-"  # a chat that a response without a conversation made
_MAX_BYTES = 2**31
_LIST = ("limit", "order", "after")


class FoundResponse(msgspec.Struct, frozen=True):
    """A response: of a running turn it has no answer yet."""

    chat: ChatRef
    ref: TurnRef
    ask: UserMessage | Ask
    answer: AssistantMessage | None
    created: int

    @property
    def echo(self) -> dict[str, Any]:
        kept, metadata = self.ask.response, self.ask.metadata
        echo = {} if kept is msgspec.UNSET else dict(kept)
        return echo | ({} if metadata is msgspec.UNSET else {"metadata": metadata})


class ResponseRoutes(OpenAiRoutes):
    """The Responses API."""

    def routes(self) -> list[Route]:
        one = "/v1/responses/<response_id>"
        query = ("stream", "starting_after")
        return [
            *self._both("POST", "/v1/responses", self.create, access="turn", body=dialect.BODY),
            *self._both("GET", one, self.get, query=query, status=404),
            *self._both("DELETE", one, self.forget, status=404),
            *self._both("POST", f"{one}/cancel", self.cancel, status=404),
            *self._both("GET", f"{one}/input_items", self.list_input, query=_LIST, status=404),
        ]

    def create(self, request: Request, caller: Caller, chat_id: str = "") -> Response:
        """Answer as OpenAI's Responses do; the turn is kept in its conversation, or its chat."""
        asked = read_response(request.get_data(), self._settings.parameters)
        ask, streams = asked.ask, asked.ask.stream
        if asked.previous:
            chat_id, parent_id = self._find_previous(asked.previous, chat_id)
            ask = replace(ask, parent_id=parent_id)
        elif asked.chat_id:
            check_chat_id(asked.chat_id, "conversation")
        chat_id = asked.chat_id or chat_id
        if not chat_id:
            ask = replace(ask, stored=asked.store or asked.background)
            chat_id = _OWN_CHAT + uuid.uuid4().hex
        ask = replace(ask, stream=streams or asked.background)
        model = ask.model or self._settings.gpt_model
        writer = ResponseWriter(model, int(time.time()), asked.echo)
        return self._talk.say(
            request,
            caller,
            _dialect(writer, asked.echo),
            chat_id,
            must_exist=bool(asked.chat_id or asked.previous),
            ask=ask,
            sent=asked.sent,
            accept=writer.accepted if asked.background and not streams else None,
        )

    def get(
        self, request: Request, caller: Caller, response_id: str, chat_id: str = ""
    ) -> Response:
        """Get a response, or follow its events."""
        found = self._load(caller, response_id)
        if request.args.get("stream") != "true":
            return json_response(self._write(found))
        last = 10**9
        after = whole_number(request, "starting_after", default=-1, minimum=0, maximum=last)
        model = found.answer.model if found.answer else self._settings.gpt_model
        writer = ResponseWriter(model, found.created, found.echo, after=after, single=after < 0)
        length = len(found.answer.content) if found.answer else last
        offset = min(writer.first_offset, length)
        cursor = Cursor("", offset)
        reader = self._turns.resume(found.chat, found.ref.turn_id, cursor, strict=False)
        assert reader is not None
        return self._talk.follow(request, _dialect(writer, found.echo), reader)

    def cancel(
        self, request: Request, caller: Caller, response_id: str, chat_id: str = ""
    ) -> Response:
        """Stop a response; the text so far is kept."""
        found = self._load(caller, response_id)
        if found.answer is None:
            self._turns.stop(found.chat)
            found = self._load(caller, response_id)
        if found.answer and found.answer.status == "completed":
            raise InvalidRequest("Cannot cancel a completed response.", param="response_id")
        return json_response(self._write(found))

    def forget(
        self, request: Request, caller: Caller, response_id: str, chat_id: str = ""
    ) -> Response:
        """Delete a response that made a chat of its own."""
        found = self._load(caller, response_id)
        if not found.chat.id.startswith(_OWN_CHAT):
            raise NotFound(
                "This response is part of a chat; delete the chat.", code="unsupported_endpoint"
            )
        self._turns.delete(found.chat)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    def list_input(
        self, request: Request, caller: Caller, response_id: str, chat_id: str = ""
    ) -> Response:
        """List what the response was asked."""
        found = self._load(caller, response_id)
        if isinstance(found.ask, Ask):
            return json_response(list_page(request, []))
        return json_response(list_page(request, write_items(found.ask, f"_{found.chat.id}")))

    def _find_previous(self, response_id: str, chat_id: str) -> tuple[str, str]:
        """(the chat, the message) of the response that is continued."""
        parent_id, own = turn_of(response_id), response_id.split("_", 2)[2:]
        if parent_id is None or not own or (chat_id and own[0] != chat_id):
            raise _not_found(response_id, "previous_response_id", "previous_response_not_found")
        check_chat_id(own[0], "previous_response_id")
        return own[0], parent_id

    def _load(self, caller: Caller, response_id: str) -> FoundResponse:
        """Raises NotFound."""
        message_id, own = turn_of(response_id), response_id.split("_", 2)[2:]
        here = find_ref(message_id) if message_id and response_id.startswith("resp_") else None
        if here is None or not own or not here.index % 2:
            raise _not_found(response_id)
        chat, ref = ChatRef(caller.owner, own[0]), TurnRef(here.index - 1, here.nonce)
        check_chat_id(chat.id, "response_id")
        stored = self._find_stored(chat, ref)
        if stored is None:
            stored = self._find_running(chat, ref) or self._find_stored(chat, ref)
        if stored is None:
            stored = self._find_failed(chat, ref)
        if stored is None:
            raise _not_found(response_id)
        return stored

    def _find_stored(self, chat: ChatRef, ref: TurnRef) -> FoundResponse | None:
        messages = self._history.read_ranges(chat, [(ref.index, ref.index + 1)], _MAX_BYTES)
        if len(messages) != 2:
            return None
        asked, answer = (read_message(message) for message in messages)
        if not isinstance(answer, AssistantMessage) or answer.id != ref.message_id:
            return None
        assert isinstance(asked, UserMessage)
        return FoundResponse(chat, ref, asked, answer, created_of(answer))

    def _find_running(self, chat: ChatRef, ref: TurnRef) -> FoundResponse | None:
        look = self._turns.look(chat)
        if look.running != ref:
            return None
        ask = msgspec.json.decode(look.asked, type=Ask)
        return FoundResponse(chat, ref, ask, None, look.began_ms // 1000)

    def _find_failed(self, chat: ChatRef, ref: TurnRef) -> FoundResponse | None:
        """For a while, the log of a turn that failed is there."""
        try:
            reader = self._turns.resume(chat, ref.turn_id, None, strict=False)
        except NotFound:
            return None
        assert reader is not None
        run_to_end(reader)
        reader.leave()
        if not reader.ended or not reader.ended.error:
            return None
        return FoundResponse(chat, ref, Ask(content=msgspec.Raw(b'""')), None, -1)

    def _write(self, found: FoundResponse) -> dict[str, Any]:
        if found.answer:
            return write_response(found.answer, found.echo)
        model, created = self._settings.gpt_model, max(0, found.created)
        status = "in_progress" if found.created >= 0 else "failed"
        message_id = found.ref.message_id
        empty = empty_response(message_id, found.chat.id, model, created, status, found.echo)
        if status == "failed":
            empty["error"] = {"code": "server_error", "message": "The model API failed."}
        return empty


def _dialect(writer: ResponseWriter, echo: dict[str, Any]) -> Dialect:
    return Dialect(
        never, lambda answer: write_response(answer, echo), writer.write, translate=translate
    )


def _not_found(response_id: str, param: str = "response_id", code: str = "not_found") -> NotFound:
    return NotFound(f"There is no response {response_id}.", param=param, code=code)
