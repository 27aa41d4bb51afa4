"""The routes of the product's own API."""

import base64
import binascii
import time
from collections.abc import Iterator
from urllib.parse import urlencode

from flask import Request, Response
from msgspec.structs import replace

from chat.dialects import native
from chat.errors import InvalidRequest, NotFound, StoreUnavailable
from chat.events import Event
from chat.history import History, Page
from chat.keyspace import ChatRef
from chat.messages import find_ref, id_of
from chat.reader import Reader
from chat.run import Run
from chat.settings import VERSION, Settings
from chat.turns import Turns
from chat.web.headers import pause_for, read_if_match, read_repeat
from chat.web.routes import Route, json_response, whole_number

_MOST_MESSAGES = 1000
_MOST_CHATS = 100
_OWNER = "anonymous"
_STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class NativeRoutes:
    """Handlers; each takes the request and the parts of its path."""

    def __init__(self, turns: Turns, history: History, settings: Settings) -> None:
        self._turns = turns
        self._history = history
        self._settings = settings

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/health", self.health),
            Route("GET", "/chats", self.list_chats),
            Route("GET", "/<not_reserved:chat_id>", self.get_chat),
            Route("PATCH", "/<not_reserved:chat_id>", self.patch_chat),
            Route("DELETE", "/<not_reserved:chat_id>", self.delete_chat),
            Route("POST", "/<chat_id>/chat", self.post_message),
            Route("GET", "/<chat_id>/chat", self.get_history),
            Route("GET", "/<chat_id>/chat/stream", self.resume),
            Route("GET", "/<chat_id>/turns/<turn_id>/stream", self.resume),
            Route("POST", "/<chat_id>/chat/stop", self.stop),
            Route("POST", "/<chat_id>/chat/preview", self.preview),
            Route("DELETE", "/<chat_id>/chat", self.delete_chat),
        ]

    def post_message(self, request: Request, chat_id: str) -> Response:
        began = time.monotonic()
        chat = ChatRef(_OWNER, chat_id)
        ask = native.read_request(request.get_data(), accept=request.headers.get("Accept", ""))
        ask = replace(ask, repeat=read_repeat(request), revision=read_if_match(request))
        while True:
            turn = self._turns.begin(chat, ask, pause_for(request))
            if ask.stream:
                return self._stream(turn, began)
            if isinstance(turn, Run):
                return self._answer(turn.finish(), _server_timing(turn, began))
            if message := turn.finish().message:
                return self._answer(bytes(message))
            # The turn of this key failed and left nothing: then it may run again.

    def resume(self, request: Request, chat_id: str, turn_id: str | None = None) -> Response:
        # A browser that reconnects sends the header, and still the query of its first request.
        offset = request.headers.get("Last-Event-ID") or request.args.get("after", "0")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 16):
            raise InvalidRequest("`after` must be a number.", param="after", code="invalid_cursor")
        reader = self._turns.resume(ChatRef(_OWNER, chat_id), turn_id, int(offset))
        return self._stream(reader, None) if reader else Response(status=204)

    def stop(self, request: Request, chat_id: str) -> Response:
        message = self._turns.stop(ChatRef(_OWNER, chat_id))
        return self._answer(message) if message else Response(status=204)

    def preview(self, request: Request, chat_id: str) -> Response:
        ask = native.read_request(request.get_data(), accept="")
        model, prompt = self._turns.preview(ChatRef(_OWNER, chat_id), ask)
        return json_response(
            {
                "model": model,
                "messages": prompt.messages,
                "prompt_tokens_estimate": prompt.tokens,
                "dropped_messages": prompt.start,
            }
        )

    def _answer(self, message: bytes, server_timing: str = "") -> Response:
        place = find_ref(id_of(message))
        headers = {"ETag": f'"{place.index + 1}"'} if place else {}
        if server_timing:
            headers["Server-Timing"] = server_timing
        return json_response(message, headers=headers)

    def _stream(self, turn: Run | Reader, began: float | None) -> Response:
        first: list[Event] = []
        headers = dict(_STREAM_HEADERS)
        if isinstance(turn, Run) and began is not None:
            first = turn.wait_for_answer(self._settings.keepalive_seconds)
            headers["Server-Timing"] = _server_timing(turn, began)
        return Response(EventStream(turn, first), headers=headers)

    def get_history(self, request: Request, chat_id: str) -> Response:
        limit = whole_number(request, "limit", default=_MOST_MESSAGES, least=1, most=_MOST_MESSAGES)
        before = request.args.get("before", "")
        known = request.if_none_match.as_set(include_weak=True)
        known_one = known.pop() if len(known) == 1 else ""

        def load() -> Page | None:
            return self._history.load(
                ChatRef(_OWNER, chat_id), limit=limit, before=before, known=known_one
            )

        page = load()
        if page and page.running and self._turns.settle_if_dead(ChatRef(_OWNER, chat_id)):
            page = load()
        if page is None:
            raise InvalidRequest(
                "`before` is not the id of a message of this chat.",
                param="before",
                code="invalid_cursor",
            )
        headers = {"ETag": f'"{page.revision}"'}
        if request.if_none_match.contains_weak(str(page.revision)):
            return Response(status=304, headers=headers)
        if page.first > 0:
            query = urlencode({"limit": limit, "before": id_of(page.messages[0])})
            headers["Link"] = f'</{chat_id}/chat?{query}>; rel="next"'
        return json_response(b"[%b]" % b",".join(page.messages), headers=headers)

    def get_chat(self, request: Request, chat_id: str) -> Response:
        chat = self._history.find_chat(ChatRef(_OWNER, chat_id))
        if chat is None or chat.active_turn:  # perhaps its first turn died
            self._turns.settle_if_dead(ChatRef(_OWNER, chat_id))
            chat = self._history.find_chat(ChatRef(_OWNER, chat_id))
        if chat is None:
            raise NotFound("There is no such chat.", code="chat_not_found")
        return json_response(chat, headers={"ETag": f'"{chat.message_count}"'})

    def patch_chat(self, request: Request, chat_id: str) -> Response:
        changes = native.read_patch(request.get_data())
        if not self._history.patch(ChatRef(_OWNER, chat_id), changes):
            raise NotFound("There is no such chat.", code="chat_not_found")
        return self.get_chat(request, chat_id)

    def delete_chat(self, request: Request, chat_id: str) -> Response:
        self._history.delete(ChatRef(_OWNER, chat_id))
        return Response(status=204)

    def list_chats(self, request: Request) -> Response:
        limit = whole_number(request, "limit", default=20, least=1, most=_MOST_CHATS)
        after = _read_cursor(request.args.get("cursor", ""))
        chats, more = self._history.list_chats(_OWNER, limit, after)
        return json_response({"data": chats, "next_cursor": _write_cursor(more)})

    def health(self, request: Request) -> Response:
        state = {"status": "ok", "redis": "ok", "version": VERSION}
        try:
            self._history.ping()
        except StoreUnavailable as error:
            state |= {"status": "unavailable", "redis": "unavailable"}
            return json_response(state | error.body(), error.status, error.headers)
        return json_response(state)


class EventStream:
    """A turn's events as bytes for the web server, which calls `close` whatever happens.

    A class and not a generator: closing a generator that was never started runs none of it,
    and then the turn of a client that left at once would never come to its end.
    """

    def __init__(self, run: Run | Reader, first: list[Event]) -> None:
        self._run = run
        self._waiting: list[Event] = [run.started, *first]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._waiting:
            if self._run.ended:
                raise StopIteration
            self._waiting = self._run.step()
        events, self._waiting = self._waiting, []
        return b"".join(map(native.write_event, events))

    def close(self) -> None:
        self._run.close()


def _server_timing(run: Run, began: float) -> str:
    """What took how many milliseconds; of a stream, until its first byte."""
    spans = {
        "auth": 0.0,
        "store": run.store_seconds,
        "upstream": run.upstream_seconds,
        "total": time.monotonic() - began,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in spans.items())


def _write_cursor(place: tuple[str, str] | None) -> str | None:
    return place and base64.urlsafe_b64encode(":".join(place).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[str, str] | None:
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        updated, _, chat_id = base64.b64decode(padded, b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        updated = chat_id = ""
    if not (updated.isascii() and updated.isdigit() and chat_id):
        raise InvalidRequest("`cursor` is not one of ours.", param="cursor", code="invalid_cursor")
    return updated, chat_id
