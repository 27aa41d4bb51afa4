"""Items of the Responses API <-> entries of a conversation."""

from typing import Any

import msgspec

from chat.core.errors import InvalidRequest
from chat.core.messages import AssistantMessage, UserMessage

Item = dict[str, Any]
_TEXTS = frozenset(("text", "input_text", "output_text", "summary_text"))
_FILE_FIELDS = ("file_id", "filename", "file_data")


def read_input(value: object, name: str = "input") -> list[Item]:
    """Entries of a request's `input`: a text or a list of items. Raises InvalidRequest."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise InvalidRequest(f"`{name}` must be a string or a list of items.", param=name)
    entries = [_read_item(item, f"{name}[{at}]") for at, item in enumerate(value)]
    return [entry for entry in entries if entry]


def _read_item(item: object, name: str) -> Item:
    if not isinstance(item, dict):
        raise InvalidRequest(f"`{name}` must be an object.", param=name)
    match item.get("type") or "message":
        case "message":
            return _read_message(item, name)
        case "function_call" | "custom_tool_call":
            return _read_call(item, name)
        case "function_call_output" | "custom_tool_call_output":
            call_id = _text(item, "call_id", name)
            content = _read_content(item.get("output", ""), name)
            return {"role": "tool", "tool_call_id": call_id, "content": content}
        case "item_reference":
            return {"reference": _text(item, "id", name)}
        case "reasoning":
            return {}  # the model's own, of earlier turns: it is kept with them
        case kind:
            raise InvalidRequest(
                f"Items of type {kind} are not supported.",
                param=name,
                code="unsupported_parameter",
            )


def _read_message(item: Item, name: str) -> Item:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise InvalidRequest(f"`{name}.role` is not a role.", param=name)
    content = _read_content(item.get("content"), name)
    if role == "assistant" and isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return {"role": role, "content": content}


def _read_call(item: Item, name: str) -> Item:
    is_function = item["type"] == "function_call"
    kind, field = ("function", "arguments") if is_function else ("custom", "input")
    text = item.get(field)
    said = {"name": _text(item, "name", name), field: text if isinstance(text, str) else ""}
    call = {"id": _text(item, "call_id", name), "type": kind, kind: said}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _read_content(content: object, name: str) -> object:
    """A text stays a text, and so does a single part of text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequest(f"`{name}` must hold a text or a list of parts.", param=name)
    parts = [_read_part(part, name) for part in content]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _read_part(part: Item, name: str) -> Item:
    match part.get("type"):
        case kind if kind in _TEXTS:
            return {"type": "text", "text": _text(part, "text", name)}
        case "refusal":
            return {"type": "text", "text": _text(part, "refusal", name)}
        case "input_image":
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part.get("image_url")} | detail}
        case "input_file":
            return {"type": "file", "file": {k: part[k] for k in _FILE_FIELDS if part.get(k)}}
        case "input_audio":
            return part
        case kind:
            raise InvalidRequest(
                f"Parts of type {kind} are not supported.", param=name, code="unsupported_parameter"
            )


def _text(item: Item, field: str, name: str) -> str:
    value = item.get(field)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}.{field}` must be a string.", param=name)
    return value


def write_items(message: UserMessage | AssistantMessage, chat: str = "") -> list[Item]:
    """A stored message as items; `chat` is the end of their ids, where a path names no chat."""
    if isinstance(message, AssistantMessage):
        return write_output(message, chat)
    if message.messages is msgspec.UNSET:
        content = msgspec.json.decode(message.content)
        return [_message(message.id + chat, "user", content)]
    own = message.id.removeprefix("msg_")
    return [
        item
        for at, entry in enumerate(message.messages)
        if entry
        for item in _write_entry(entry, f"{own}-{at}" if at else own, chat)
    ]


def write_output(answer: AssistantMessage, chat: str = "") -> list[Item]:
    """The output items of a response: the text, the calls; the thinking comes first."""
    own = answer.id.removeprefix("msg_")
    calls = [] if answer.tool_calls is msgspec.UNSET else answer.tool_calls
    items = []
    if answer.content or not calls:
        status = "completed" if answer.status == "completed" else "incomplete"
        items.append(message_item(answer.id + chat, answer.content, status))
    return items + [call_item(f"{own}-{at}{chat}", call) for at, call in enumerate(calls)]


def message_item(item_id: str, text: str, status: str) -> Item:
    """The model's text as an item."""
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text_part(text)],
    }


def text_part(text: str) -> Item:
    """A part of the model's text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(own_id: str, call: Item) -> Item:
    """A tool call as an item."""
    kind = "custom" if call.get("type") == "custom" else "function"
    said = call.get(kind) or {}
    head = {"id": f"fc_{own_id}", "status": "completed", "call_id": call.get("id")}
    if kind == "custom":
        text = {"name": said.get("name"), "input": said.get("input", "")}
        return head | {"type": "custom_tool_call"} | text
    text = {"name": said.get("name"), "arguments": said.get("arguments", "")}
    return head | {"type": "function_call"} | text


def _write_entry(entry: Item, own: str, chat: str) -> list[Item]:
    role = entry.get("role", "user")
    if role == "tool":
        head = {"id": f"fc_{own}{chat}", "type": "function_call_output", "status": "completed"}
        return [head | {"call_id": entry.get("tool_call_id"), "output": entry.get("content")}]
    items = []
    if entry.get("content") or not entry.get("tool_calls"):
        items.append(_message(f"msg_{own}{chat}", role, entry.get("content") or ""))
    calls = entry.get("tool_calls") or []
    return items + [call_item(f"{own}.{at}{chat}", call) for at, call in enumerate(calls)]


def _message(item_id: str, role: str, content: object) -> Item:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    assert isinstance(parts, list)
    written = [_write_part(part, role) for part in parts]
    head = {"id": item_id, "type": "message", "role": role, "status": "completed"}
    return head | {"content": written}


def _write_part(part: Item, role: str) -> Item:
    match part.get("type"):
        case "text":
            is_answer = role == "assistant"
            return text_part(part["text"]) if is_answer else {"type": "input_text"} | _only(part)
        case "image_url":
            image = part.get("image_url") or {}
            detail = image.get("detail", "auto")
            return {"type": "input_image", "image_url": image.get("url"), "detail": detail}
        case "file":
            return {"type": "input_file"} | dict(part.get("file") or {})
        case _:
            return part


def _only(part: Item) -> Item:
    return {"text": part.get("text", "")}
