"""The routes of Chatkeep's own API."""

import base64
import binascii
import re
from functools import partial
from urllib.parse import urlencode

import msgspec
from flask import Request, Response
from msgspec.structs import replace

from chat.core.credentials import Caller
from chat.core.cursors import read_cursor
from chat.core.errors import InvalidRequest, NotFound, StoreUnavailable
from chat.core.messages import ChatRef, id_of
from chat.core.outcomes import ListCursor, Page
from chat.settings import VERSION
from chat.store.chats import Chats
from chat.store.health import Health
from chat.store.history import History
from chat.store.history_reader import SMALL_PAGE_BYTES
from chat.turns.events import running_message
from chat.turns.turns import Turns
from chat.web.apis.base import ChatRoutes
from chat.web.dialects import native
from chat.web.dialects.native import NATIVE
from chat.web.headers import last_event_id
from chat.web.live.answer import Talk, answer
from chat.web.routes import Route, json_response, whole_number

_MAX_MESSAGES = 1000
_MAX_CHATS = 100
_CURSOR = re.compile(r"([0-9]{1,15}):([01]):([0-9]{1,15}):([A-Za-z0-9._~-]{0,128})")


class NativeRoutes(ChatRoutes):
    """The family of Chatkeep's own API."""

    def __init__(
        self, turns: Turns, history: History, chats: Chats, talk: Talk, health: Health
    ) -> None:
        super().__init__(turns, history, chats, talk)
        self._health = health

    def routes(self) -> list[Route]:
        page, cursor = ("limit", "before", "leaf"), ("after",)
        return [
            Route("GET", "/health", self.health, access="anyone"),
            Route("GET", "/livez", self.live, access="anyone"),
            Route("GET", "/chats", self.list_chats, query=("limit", "cursor")),
            Route("GET", "/<not_reserved:chat_id>", self.get_chat),
            Route("PATCH", "/<not_reserved:chat_id>", self.patch_chat, body=native.PATCH_BODY),
            Route("DELETE", "/<not_reserved:chat_id>", self.delete, status=204),
            Route("POST", "/<chat_id>/chat", self.post_message, access="turn", body=native.BODY),
            Route("GET", "/<chat_id>/chat", self.get_history, query=page),
            Route("GET", "/<chat_id>/chat/stream", self.resume, query=cursor),
            Route("GET", "/<chat_id>/turns/<turn_id>/stream", self.resume, query=cursor),
            Route("POST", "/<chat_id>/chat/stop", self.stop),
            Route("POST", "/<chat_id>/chat/preview", self.preview, body=native.BODY),
            Route("DELETE", "/<chat_id>/chat", self.delete, status=204),
        ]

    def post_message(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Send a message; the chat is created if it does not exist."""
        return self._talk.say(request, caller, NATIVE, chat_id)

    def resume(
        self, request: Request, caller: Caller, chat_id: str, turn_id: str | None = None
    ) -> Response:
        """Follow a turn from an offset: the one named, else the running, else the newest one."""
        # A browser's EventSource reconnects with the header and the query of its first request,
        # and gives up for ever when it is refused.
        last_id, after = last_event_id(request), request.args.get("after")
        cursor = read_cursor(last_id or after or "")
        strict = not last_id and after is not None
        if strict and cursor is None:
            raise InvalidRequest(
                "`after` must be the id of an event, or a number of characters.",
                param="after",
                code="invalid_cursor",
            )
        chat = ChatRef(caller.owner, chat_id)
        reader = self._turns.resume(chat, turn_id, cursor, strict=strict)
        return self._talk.follow(request, NATIVE, reader) if reader else Response(status=204)

    def stop(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Stop the running turn; the text generated so far is kept."""
        stopped = self._turns.stop(ChatRef(caller.owner, chat_id))
        return answer(NATIVE, *stopped) if stopped else Response(status=204)

    def preview(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Show what would be sent to the model; nothing is sent or stored."""
        ask = native.read_request(request.get_data(), "")
        model, prompt = self._turns.preview(caller, ChatRef(caller.owner, chat_id), ask)
        return json_response(
            {
                "model": model,
                "messages": prompt.messages,
                "prompt_tokens_estimate": prompt.tokens,
                "dropped_messages": prompt.start,
            }
        )

    def get_history(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """List the messages of the active branch, or of the one ending at `leaf`, oldest first."""
        limit = whole_number(
            request, "limit", default=_MAX_MESSAGES, minimum=1, maximum=_MAX_MESSAGES
        )
        leaf = request.args.get("leaf", "")
        chat = ChatRef(caller.owner, chat_id)
        page = self._load_page(request, chat, limit, leaf, SMALL_PAGE_BYTES)
        if page.first > 0 and len(page.messages) < limit:  # there is more than is small
            with self._history.large:
                page = self._load_page(request, chat, limit, leaf)
                return self._write_page(request, chat_id, page, limit, leaf)
        return self._write_page(request, chat_id, page, limit, leaf)

    def _write_page(
        self, request: Request, chat_id: str, page: Page, limit: int, leaf: str
    ) -> Response:
        headers = {"ETag": f'"{page.etag}"', "Cache-Control": "private, no-cache"}
        if request.if_none_match.contains_weak(page.etag):
            return Response(status=304, headers=headers)
        if page.first > 0:
            query = urlencode(
                {"limit": limit, "before": id_of(page.messages[0])}
                | ({"leaf": leaf} if leaf else {})
            )
            headers["Link"] = f'<?{query}>; rel="next"'  # relative: a proxy may add a path
        return json_response(b"[%b]" % b",".join(page.messages), headers=headers)

    def _load_page(
        self, request: Request, chat: ChatRef, limit: int, leaf: str, most: int = 0
    ) -> Page:
        """Raises NotFound for an unknown `leaf`, InvalidRequest for an unknown `before`."""
        before = request.args.get("before", "")
        etags = request.if_none_match.as_set(include_weak=True)
        known = etags.pop() if len(etags) == 1 else ""
        load = partial(
            self._history.load,
            chat,
            limit=limit,
            before=before,
            known=known,
            leaf=leaf,
            most=most,
        )
        page = load()
        if page and page.running and self._turns.settle_if_dead(chat):
            page = load()
        if page is None and leaf and not before:
            message = "`leaf` is not a message of this chat."
            raise NotFound(message, param="leaf", code="message_not_found")
        if page is None:
            message = "`before` is not a message of this chat."
            raise InvalidRequest(message, param="before", code="invalid_cursor")
        return page

    def get_chat(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Get a chat; its messages are at /<chat_id>/chat."""
        ref, message = ChatRef(caller.owner, chat_id), b""
        found = self._chats.find_chat(ref)
        if found and found.chat.active_turn:  # the instance of its turn may have died
            look = self._turns.look(ref)
            found = self._chats.find_chat(ref)
            if found and look.running and look.running.turn_id == found.chat.active_turn:
                message = running_message(look)
        if found is None:
            raise NotFound("There is no such chat.", code="chat_not_found")
        running = msgspec.Raw(message) if message else None
        chat = replace(found.chat, running_message=running)
        return json_response(chat, headers={"ETag": f'"{found.etag}"'})

    def patch_chat(self, request: Request, caller: Caller, chat_id: str) -> Response:
        """Change a chat's title, model, instructions or metadata."""
        changes = native.read_patch(request.get_data())
        self._turns.check_model(changes.get("model", ""))
        if not self._chats.patch(ChatRef(caller.owner, chat_id), changes):
            raise NotFound("There is no such chat.", code="chat_not_found")
        return self.get_chat(request, caller, chat_id)

    def list_chats(self, request: Request, caller: Caller) -> Response:
        """List chats, newest first, in pages."""
        limit = whole_number(request, "limit", default=20, minimum=1, maximum=_MAX_CHATS)
        after = _read_cursor(request.args.get("cursor", ""))
        chats, more = self._chats.list_chats(caller.owner, limit, after)
        return json_response({"data": chats, "next_cursor": _write_cursor(more)})

    def health(self, request: Request) -> Response:
        """Report whether the service is up and Redis takes writes."""
        state = {"status": "ok", "redis": "ok", "version": VERSION}
        try:
            warnings = self._health.check()
        except StoreUnavailable as error:
            state |= {"status": "unavailable", "redis": "unavailable"}
            return json_response(state | error.body(), error.status, error.headers)
        return json_response(state | ({"warnings": warnings} if warnings else {}))

    def live(self, request: Request) -> Response:
        """Report whether the process lives, whatever is with Redis."""
        return json_response({"status": "ok", "version": VERSION})


def _write_cursor(cursor: ListCursor | None) -> str | None:
    if cursor is None:
        return None
    text = ":".join((cursor.top, cursor.rising, cursor.score, cursor.id))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> ListCursor | None:
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    match = _CURSOR.fullmatch(text)
    if not match:
        raise InvalidRequest(
            "`cursor` is not a cursor of this API.", param="cursor", code="invalid_cursor"
        )
    return ListCursor(*match.groups())
