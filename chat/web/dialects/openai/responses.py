"""The Responses API: requests, and the response object."""

from collections.abc import Collection
from typing import Any

import msgspec

from chat.core.entries import Entry
from chat.core.errors import InvalidRequest
from chat.core.messages import Ask, AssistantMessage
from chat.core.sent import Sent, likely_new
from chat.web.dialects import OBJECT, TEXT, Body, Schema
from chat.web.dialects.openai.chat import created_of, read_ask, usage_of
from chat.web.dialects.openai.items import read_input, write_output
from chat.web.dialects.openai.parameters import TABLE, read_parameters, unsupported

_PASSED = ("top_p", "parallel_tool_calls", "service_tier", "top_logprobs", "moderation")
_OWN_TOOLS = ("function", "custom")
_MAX_METADATA = 16


class ResponseRequest(msgspec.Struct, frozen=True):
    """`chat_id`: of its conversation; `previous`: the id of the response that it follows."""

    ask: Ask
    sent: Sent
    chat_id: str
    previous: str
    background: bool
    store: bool
    echo: dict[str, Any]  # what the response repeats


def read_response(raw: bytes, allowed: Collection[str]) -> ResponseRequest:
    """The body of POST /v1/responses. Raises InvalidRequest."""
    body = Body(raw)
    if body.fields.get("input") is None:
        raise InvalidRequest("`input` is missing.", param="input", code="missing_field")
    entries = [*_instructions(body), *read_input(body.fields["input"])]
    if not entries:
        raise InvalidRequest("`input` must not be empty.", param="input")
    previous = body.text("previous_response_id", max_length=256) or ""
    conversation = _conversation(body)
    if previous and conversation:
        raise InvalidRequest(
            "`previous_response_id` and `conversation` exclude each other.",
            param="previous_response_id",
        )
    background = body.flag("background") or False
    ask = read_ask(body, likely_new(entries), read_parameters(_as_chat(body), allowed))
    kept = {
        "background": background,
        "previous_response_id": previous or None,
        "conversation": {"id": conversation} if conversation else None,
    }
    metadata = body.metadata()
    ask = msgspec.structs.replace(
        ask, metadata=metadata or msgspec.UNSET, response={k: v for k, v in kept.items() if v}
    )
    store = body.flag("store") is not False
    sent = Sent(entries, is_next=bool(previous))
    return ResponseRequest(
        ask, sent, conversation, previous, background, store, kept | _echo(body, store)
    )


def _instructions(body: Body) -> list[Entry]:
    text = body.fields.get("instructions")
    if not text:
        return []
    if isinstance(text, str):
        return [{"role": "system", "content": text}]
    return read_input(text, "instructions")


def _conversation(body: Body) -> str:
    value = body.fields.get("conversation")
    found = value.get("id") if isinstance(value, dict) else value
    if found is not None and not isinstance(found, str):
        raise InvalidRequest("`conversation` must be an id.", param="conversation")
    return found or ""


def _as_chat(body: Body) -> dict[str, Any]:
    """The parameters under the names of Chat Completions; what no model needs is left out."""
    fields = {name: body.fields.get(name) for name in _PASSED}
    text, reasoning = body.mapping("text") or {}, body.mapping("reasoning") or {}
    fields["verbosity"] = text.get("verbosity")
    fields["response_format"] = _format(text.get("format"))
    fields["reasoning_effort"] = reasoning.get("effort")
    tools = body.fields.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("`tools` must be a list.", param="tools")
    fields["tools"] = [_tool(tool) for tool in tools or []]
    fields["tool_choice"] = _choice(body.fields.get("tool_choice"))
    if body.fields.get("prompt") is not None:
        raise unsupported("prompt", "prompts cannot be stored here")
    assert fields.keys() <= TABLE.keys()
    return fields


def _format(value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") != "json_schema":
        return value
    schema = {key: part for key, part in value.items() if key != "type" and part is not None}
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: Any) -> Any:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in _OWN_TOOLS:
        return tool
    fields = {key: part for key, part in tool.items() if key != "type" and part is not None}
    return {"type": kind, kind: fields}


def _choice(choice: Any) -> Any:
    kind = choice.get("type") if isinstance(choice, dict) else None
    return {"type": kind, kind: {"name": choice.get("name")}} if kind in _OWN_TOOLS else choice


def _echo(body: Body, store: bool) -> dict[str, Any]:
    fields = body.fields
    return {
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
        "reasoning": fields.get("reasoning"),
        "store": store,
        "temperature": fields.get("temperature"),
        "text": fields.get("text") or {"format": {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
        "top_p": fields.get("top_p"),
        "truncation": fields.get("truncation") or "disabled",
        "metadata": fields.get("metadata") or {},
    }


def response_id(message_id: str, chat_id: str) -> str:
    """The id of a response: that of its message, and its chat's."""
    return f"resp_{message_id.removeprefix('msg_')}_{chat_id}"


def empty_response(
    message_id: str, chat_id: str, model: str, created: int, status: str, echo: dict[str, Any]
) -> dict[str, Any]:
    """A response that has no answer yet; `created` in Unix seconds."""
    return {
        "id": response_id(message_id, chat_id),
        "object": "response",
        "created_at": created,
        "status": status,
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "background": False,
        "previous_response_id": None,
        "conversation": None,
        "usage": None,
        **echo,
    }


def write_response(answer: AssistantMessage, echo: dict[str, Any]) -> dict[str, Any]:
    """The response with a stored answer."""
    status, more = _status(answer)
    created = created_of(answer)
    usage = usage_of(answer)
    head = empty_response(answer.id, answer.chat_id, answer.model, created, status, echo)
    return (
        head
        | more
        | {
            "output": output_of(answer),
            "completed_at": created if status == "completed" else None,
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["total_tokens"],
            },
        }
    )


def _status(answer: AssistantMessage) -> tuple[str, dict[str, Any]]:
    """The status, and what explains it."""
    if answer.status == "cancelled":
        return "cancelled", {}
    if answer.status == "incomplete":
        error = {"code": "server_error", "message": "The answer broke off."}
        return "failed", {"error": error}
    if answer.finish_reason == "length":
        return "incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}
    if answer.finish_reason == "content_filter":
        return "incomplete", {"incomplete_details": {"reason": "content_filter"}}
    return "completed", {}


def output_of(answer: AssistantMessage) -> list[dict[str, Any]]:
    """The items of an answer: its text, its calls, and last what the model thought."""
    items = write_output(answer, f"_{answer.chat_id}")
    if answer.finish_reason == "length":
        items = [item | {"status": "incomplete"} for item in items]
    if not answer.reasoning:
        return items
    own = answer.id.removeprefix("msg_")
    return [*items, reasoning_item(f"rs_{own}_{answer.chat_id}", str(answer.reasoning))]


def reasoning_item(item_id: str, text: str) -> dict[str, Any]:
    """What the model thought, as an item."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"id": item_id, "type": "reasoning", "summary": summary, "status": "completed"}


BODY: Schema = {
    "input": {"oneOf": [TEXT, {"type": "array"}]},
    "model": TEXT,
    "stream": {"type": "boolean"},
    "background": {"type": "boolean"},
    "store": {"type": "boolean"},
    "previous_response_id": TEXT,
    "conversation": {"oneOf": [TEXT, OBJECT]},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "max_output_tokens": {"type": "integer", "minimum": 1},
    "tools": {"type": "array"},
    "text": OBJECT,
    "reasoning": OBJECT,
    "metadata": OBJECT,
}
