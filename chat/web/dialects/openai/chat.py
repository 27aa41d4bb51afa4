"""Chat Completions: requests, whole answers, and chunks."""

import datetime
from collections.abc import Collection
from typing import Any

import msgspec

from chat.core.entries import Entry
from chat.core.errors import InvalidRequest
from chat.core.events import Delta, Ended, Event, KeepAlive, Reasoning, Started
from chat.core.messages import Ask, AssistantMessage, read_answer
from chat.core.sent import Sent, likely_new, with_new
from chat.core.tool_calls import CallPiece
from chat.web.dialects import OBJECT, TEXT, Body, Schema
from chat.web.dialects.openai.errors import translate_event
from chat.web.dialects.openai.parameters import read_parameters

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))
_FINISHES = frozenset(("stop", "length", "tool_calls", "content_filter"))
_MAX_NAME = 256
_MAX_TOKENS = 2**31 - 1
PING = b": ping\n"  # in front of the next event: with a blank line, clients would take it for one


class CompletionRequest(msgspec.Struct, frozen=True):
    """`chat_id`: the chat that the body names."""

    ask: Ask
    sent: Sent
    chat_id: str
    include_usage: bool


def read_chat(raw: bytes, allowed: Collection[str]) -> CompletionRequest:
    """The body of POST /v1/chat/completions. Raises InvalidRequest."""
    body = Body(raw)
    entries = _read_messages(body)
    metadata = body.metadata() or {}
    wish = _wish(metadata)
    options = body.mapping("stream_options") or {}
    ask = read_ask(body, likely_new(entries), read_parameters(body.fields, allowed))
    chat_id = metadata.get("chat_id") or ""
    if not isinstance(chat_id, str):
        raise InvalidRequest("`metadata.chat_id` must be a string.", param="metadata.chat_id")
    kept = {k: v for k, v in metadata.items() if k not in ("chat_id", "chat_history")}
    ask = msgspec.structs.replace(ask, metadata=kept or msgspec.UNSET)
    return CompletionRequest(ask, Sent(entries, wish), chat_id, bool(options.get("include_usage")))


def read_ask(body: Body, new: list[Entry], params: dict[str, Any]) -> Ask:
    """The request for a turn, with what both APIs name alike."""
    limits = [
        body.whole_number(name, minimum=1, maximum=_MAX_TOKENS)
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    ]
    ask = Ask(
        content=msgspec.Raw(b'""'),
        stream=body.flag("stream") or False,
        model=body.text("model", max_length=_MAX_NAME) or None,
        temperature=body.number("temperature", minimum=0, maximum=2),
        max_tokens=min((limit for limit in limits if limit), default=None),
        reasoning=True,
        params=params or msgspec.UNSET,
        openai=True,
    )
    return with_new(ask, new)


def _wish(metadata: dict[str, Any]) -> str:
    wish = metadata.get("chat_history") or ""
    if wish not in ("", "append", "replace"):
        raise InvalidRequest(
            "`metadata.chat_history` must be append or replace.", param="metadata.chat_history"
        )
    return str(wish)


def _read_messages(body: Body) -> list[Entry]:
    messages = body.fields.get("messages")
    if messages is None:
        raise InvalidRequest("`messages` is missing.", param="messages", code="missing_field")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a list that is not empty.", param="messages")
    for at, message in enumerate(messages):
        _check_message(message, f"messages[{at}]")
    return messages


def _check_message(message: Any, name: str) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise InvalidRequest(f"`{name}` must be an object with a `role`.", param=name)
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    is_content = content is None or isinstance(content, str | list)
    if not is_content or not all(_is_part(part) for part in parts):
        raise InvalidRequest(
            f"`{name}.content` must be a string or a list of parts.", param=f"{name}.content"
        )
    if content is None and message["role"] != "assistant":
        raise InvalidRequest(
            f"`{name}.content` is missing.", param=f"{name}.content", code="missing_field"
        )
    calls = message.get("tool_calls") or []
    if not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise InvalidRequest(f"`{name}.tool_calls` must be a list of calls.", param=name)
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        param = f"{name}.tool_call_id"
        raise InvalidRequest(f"`{param}` is missing.", param=param, code="missing_field")


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return False
    return part["type"] != "text" or isinstance(part.get("text"), str)


def created_of(answer: AssistantMessage) -> int:
    """When it was made, in Unix seconds."""
    return int(datetime.datetime.fromisoformat(answer.created_at).timestamp())


def finish_of(answer: AssistantMessage) -> str:
    """A finish reason that every client knows."""
    if answer.status == "incomplete":
        return "length"
    if answer.tool_calls and answer.status == "completed":
        return "tool_calls"
    return answer.finish_reason if answer.finish_reason in _FINISHES else "stop"


def write_completion(answer: AssistantMessage) -> object:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.tool_calls:
        message |= {"content": answer.content or None, "tool_calls": answer.tool_calls}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_of(answer)}
    return {
        "id": completion_id(answer.id),
        "object": "chat.completion",
        "created": created_of(answer),
        "model": answer.model,
        "choices": [choice],
        "usage": usage_of(answer),
    }


def completion_id(message_id: str) -> str:
    """The id of a completion, which leads to its message."""
    return f"chatcmpl-{message_id.removeprefix('msg_')}"


def usage_of(answer: AssistantMessage) -> dict[str, int]:
    """Three numbers, which some clients insist on; zeros when the model did not count."""
    usage = answer.usage
    prompt, completion = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    total = usage.total_tokens if usage else 0
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


class ChunkWriter:
    """Writes the chunks of one answer; `created` in Unix seconds."""

    def __init__(self, model: str, created: int, *, include_usage: bool) -> None:
        self._model, self._created = model, created
        self._include_usage = include_usage
        self._head = self._text_head = b""
        self._calls_sent: set[int] = set()

    def write(self, mark: bytes, event: Event) -> bytes:
        """One event as chunks."""
        if isinstance(event, Delta):
            text = msgspec.json.encode(event.text)
            return b'%b%b},"finish_reason":null}]}\n\n' % (self._text_head, text)
        match event:
            case Reasoning():
                return self._chunk({"reasoning_content": event.text})
            case CallPiece():
                return self._call(event)
            case KeepAlive():
                return PING
            case Started():
                return self._begin(event)
            case Ended():
                return self._end(event)

    def _begin(self, event: Started) -> bytes:
        head = {
            "id": completion_id(event.ids.message_id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        self._head = b"data: %b," % msgspec.json.encode(head)[:-1]
        self._text_head = self._head + b'"choices":[{"index":0,"delta":{"content":'
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b'%b"choices":[%b]}\n\n' % (self._head, msgspec.json.encode(choice))

    def _call(self, piece: CallPiece) -> bytes:
        self._calls_sent.add(piece.index)
        field = "arguments" if piece.kind == "function" else "input"
        said = {field: piece.text}
        if not piece.begins:
            return self._chunk({"tool_calls": [{"index": piece.index, piece.kind: said}]})
        head = {"index": piece.index, "id": piece.id, "type": piece.kind}
        return self._chunk({"tool_calls": [head | {piece.kind: {"name": piece.name} | said}]})

    def _end(self, event: Ended) -> bytes:
        if event.ending not in ("completed", "cancelled") or event.message is None:
            error = msgspec.json.encode({"error": translate_event(event.error)})
            return b"data: %b\n\n" % error
        answer = read_answer(bytes(event.message))
        calls = [] if answer.tool_calls is msgspec.UNSET else answer.tool_calls
        chunks = [
            self._chunk({"tool_calls": [{"index": at, **call}]})
            for at, call in enumerate(calls)
            if at not in self._calls_sent  # followed on another instance, which knows texts only
        ]
        chunks.append(self._chunk({}, finish_of(answer)))
        if self._include_usage:
            usage = msgspec.json.encode(usage_of(answer))
            chunks.append(b'%b"choices":[],"usage":%b}\n\n' % (self._head, usage))
        return b"".join([*chunks, b"data: [DONE]\n\n"])


BODY: Schema = {
    "messages": {"type": "array", "minItems": 1},
    "model": TEXT,
    "stream": {"type": "boolean"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "max_completion_tokens": {"type": "integer", "minimum": 1},
    "tools": {"type": "array"},
    "response_format": OBJECT,
    "metadata": OBJECT,
}
