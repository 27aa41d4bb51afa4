"""Dialects: the requests, answers and events of each family of routes as JSON. Pure.

    native.py agents.py ask.py completion.py conversations.py     one dialect each
    openai/                                                       the OpenAI API
    this file                                                     what they share

To add one: a file here with a `Dialect`, and a file of routes in `chat/web/apis`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from chat.core.errors import ChatkeepError, InvalidRequest
from chat.core.events import Event
from chat.core.messages import Ask, AssistantMessage

T = TypeVar("T")


def write_error(error: ChatkeepError) -> object:
    """An error in OpenAI's format."""
    return error.body()


def as_it_is(error: ChatkeepError) -> ChatkeepError:
    """An error that is answered with its own status and code."""
    return error


class Dialect(msgspec.Struct, frozen=True):
    """How a family of routes encodes a turn."""

    read_request: Callable[[bytes, str], Ask]  # (body, Accept header)
    write_answer: Callable[[AssistantMessage], object]
    write_event: Callable[[bytes, Event], bytes]  # (mark of the turn, event); b"": not shown
    answer_status: int = 200
    stream_type: str = "text/event-stream"
    write_error: Callable[[ChatkeepError], object] = write_error
    translate: Callable[[ChatkeepError], ChatkeepError] = as_it_is


_MAX_DEPTH = 100
Schema = dict[str, dict[str, object]]  # JSON Schema of each field of a body
TEXT: dict[str, object] = {"type": "string"}
OBJECT: dict[str, object] = {"type": "object"}
FLAG: dict[str, object] = {"enum": [True, False, "true", "false"]}
CONTENT: dict[str, object] = {
    "oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]
}


class Body:
    """A JSON object from a client; each getter returns None for a missing or null field."""

    def __init__(self, raw: bytes) -> None:
        """Raises InvalidRequest unless the bytes are a JSON object in UTF-8."""
        try:
            fields = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error
        if not isinstance(fields, dict):
            raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
        # Written again somewhere else, with less of the stack left, what is deep could not be.
        if raw.count(b"{") + raw.count(b"[") > _MAX_DEPTH and _is_deeper(fields, _MAX_DEPTH):
            raise InvalidRequest("The body is nested too deeply.", code="invalid_json")
        self.fields: dict[str, Any] = fields

    def text(self, name: str, *, max_length: int | None = None) -> str | None:
        """A string. Raises InvalidRequest, as all getters do."""
        value = self._get(name, str, "a string")
        if value and max_length and len(value) > max_length:
            raise self.invalid(name, f"must have at most {max_length} characters")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """A JSON object."""
        return self._get(name, dict, "an object")

    def number(self, name: str, *, minimum: float, maximum: float) -> float | None:
        """A number within the bounds."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(name, "must be a number")
        if not minimum <= value <= maximum:
            raise self.invalid(name, f"must be from {minimum:g} to {maximum:g}")
        return value

    def whole_number(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """A whole number within the bounds."""
        value = self.number(name, minimum=minimum, maximum=maximum)
        if value is not None and not isinstance(value, int):
            raise self.invalid(name, "must be a whole number")
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean, or one of the strings "true" and "false"."""
        value = self.fields.get(name)
        if value is None or isinstance(value, bool):
            return value
        if value not in ("true", "false"):
            raise self.invalid(name, "must be true or false")
        return bool(value == "true")

    def choice(self, name: str, options: tuple[T, ...]) -> T | None:
        """One of the options."""
        value = self.fields.get(name)
        if value is not None and value not in options:
            raise self.invalid(name, f"must be one of {', '.join(map(str, options))}")
        return value

    def content(self, name: str) -> msgspec.Raw:
        """A user message's content: a string or a list of content parts, required and not empty."""
        value = self.fields.get(name)
        if value is None:
            raise InvalidRequest(f"`{name}` is missing.", param=name, code="missing_field")
        if isinstance(value, list):
            for part in value:
                self._check_part(name, part)
        elif not isinstance(value, str):
            raise self.invalid(name, "must be a string or a list of content parts")
        if not value:
            raise self.invalid(name, "must not be empty")
        return msgspec.Raw(msgspec.json.encode(value))

    def invalid(self, name: str, rule: str) -> InvalidRequest:
        """The error for a field that breaks a rule: "must be a number"."""
        return InvalidRequest(f"`{name}` {rule}.", param=name)

    def _check_part(self, name: str, part: Any) -> None:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise self.invalid(name, "must be a list of objects with a `type`")
        if part["type"] == "text" and not (isinstance(part.get("text"), str) and part["text"]):
            raise self.invalid(name, "has a part of type `text` without `text`")

    def _get(self, name: str, kind: type[T], kind_name: str) -> T | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.invalid(name, f"must be {kind_name}")
        return value


def _is_deeper(value: object, levels: int) -> bool:
    """Whether more lists and objects are inside of each other."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inside)
