"""Chatkeep's own API: requests, answers and server-sent events."""

from typing import Any, get_args

import msgspec

from chat.core import sse
from chat.core.events import Delta, Ended, Event, KeepAlive, Reasoning, Started
from chat.core.messages import Ask, WhenBusy
from chat.core.tool_calls import CallPiece
from chat.web.dialects import (
    CONTENT,
    FLAG,
    NAME,
    OBJECT,
    SYSTEM,
    TITLE,
    Body,
    Dialect,
    Schema,
)
from chat.web.dialects.openai.parameters import NATIVE as PARAMETERS
from chat.web.dialects.openai.parameters import read_parameters

_WHEN_BUSY: tuple[WhenBusy, ...] = get_args(WhenBusy)
_KEEP_ALIVE = b": keep-alive\n\n"
# As sse.encode would write it, in one step: there is one of these for each token.
_DELTA = b'id: %b:%d\nevent: delta\ndata: {"text":%b}\n\n'


def read_request(raw: bytes, accept: str) -> Ask:
    """The body of POST /<chat_id>/chat; raises InvalidRequest."""
    body = Body(raw)
    content = body.content("content")
    stream = body.flag("stream")
    params = read_parameters({name: body.fields.get(name) for name in PARAMETERS})
    return Ask(
        content=content,
        stream="text/event-stream" in accept if stream is None else stream,
        model=body.name("model") or None,
        system=body.system(),
        temperature=body.number("temperature", minimum=0, maximum=2),
        max_tokens=body.whole_number("max_tokens", minimum=1, maximum=2**31 - 1),
        parent_id=body.name("parent_id"),
        when_busy=body.choice("when_busy", _WHEN_BUSY) or "enqueue",
        metadata=_unset_if_none(body.metadata()),
        reasoning=body.flag("reasoning") or False,
        params=params or msgspec.UNSET,
    )


def read_patch(raw: bytes) -> dict[str, str]:
    """The body of PATCH /<chat_id>: the fields to change; null or "" removes a value."""
    body = Body(raw)
    changes: dict[str, str] = {}
    if "title" in body.fields:
        changes["title"] = body.title() or ""
    if "model" in body.fields:
        changes["model"] = body.name("model") or ""
    if "system" in body.fields:
        changes["system"] = body.system() or ""
    if "metadata" in body.fields:
        metadata = body.metadata()
        changes["metadata"] = msgspec.json.encode(metadata).decode() if metadata else ""
    return changes


def write_event(mark: bytes, event: Event) -> bytes:
    """One event as text/event-stream; its id is a cursor (core/cursors.py)."""
    if isinstance(event, Delta):
        return _DELTA % (mark, event.offset, msgspec.json.encode(event.text))
    if isinstance(event, Reasoning):
        return sse.encode("reasoning", b'{"text":%b}' % msgspec.json.encode(event.text))
    if isinstance(event, CallPiece):
        return b""  # the calls are in the message
    if isinstance(event, KeepAlive):
        return _KEEP_ALIVE
    if isinstance(event, Started):
        data = _started_data(event)
        return b"retry: 2000\n" + sse.encode(
            "started", data, event_id=b"%b:%d" % (mark, event.offset)
        )
    return sse.encode(event.ending, _ending_data(event), event_id=b"%b:end" % mark)


def _started_data(event: Started) -> bytes:
    ids = msgspec.json.encode(event.ids)
    if event.user_message is None:
        return ids
    return b'%b,"user_message":%b}' % (ids[:-1], event.user_message)


def _ending_data(event: Ended) -> bytes:
    if event.error is None:
        return bytes(event.message or b"{}")
    data: dict[str, Any] = {"error": event.error}
    if event.message:
        data["message"] = event.message
    return msgspec.json.encode(data)


def _unset_if_none(value: dict[str, Any] | None) -> dict[str, Any] | msgspec.UnsetType:
    return msgspec.UNSET if value is None else value


PATCH_BODY: Schema = {"title": TITLE, "model": NAME, "system": SYSTEM, "metadata": OBJECT}
BODY: Schema = {
    "content": CONTENT,
    "stream": FLAG,
    "model": NAME,
    "system": SYSTEM,
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "max_tokens": {"type": "integer", "minimum": 1},
    "parent_id": NAME,
    "when_busy": {"enum": list(_WHEN_BUSY)},
    "metadata": OBJECT,
    "reasoning": FLAG,
    **PARAMETERS,
}
NATIVE = Dialect(read_request, lambda answer: answer, write_event)
