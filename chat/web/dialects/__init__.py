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
_MAX_DEPTH = 100  # far less than what makes Python's recursion fail


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
MAX_NAME = 128  # characters of an id, or of a model's name
MAX_TITLE_BYTES = 512
MAX_SYSTEM_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
TEXT: dict[str, object] = {"type": "string"}
NAME: dict[str, object] = {"type": "string", "maxLength": MAX_NAME}
TITLE: dict[str, object] = {"type": "string", "maxLength": MAX_TITLE_BYTES}
SYSTEM: dict[str, object] = {"type": "string", "maxLength": MAX_SYSTEM_BYTES}
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
        if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and _is_deeper(fields, _MAX_DEPTH):
            rule = f"The body is nested more than {_MAX_DEPTH} levels deep."
            raise InvalidRequest(rule, code="invalid_json")
        self.fields: dict[str, Any] = fields

    def text(
        self, name: str, *, max_length: int | None = None, max_bytes: int | None = None
    ) -> str | None:
        """A string. Raises InvalidRequest, as all getters do."""
        value = self._get(name, str, "a string")
        if value and max_length and len(value) > max_length:
            raise self.invalid(name, f"must have at most {max_length} characters")
        if value and max_bytes and len(value.encode()) > max_bytes:
            raise self.invalid(name, f"must have at most {max_bytes} bytes")
        return value

    def name(self, name: str) -> str | None:
        """An id, or a model's name."""
        return self.text(name, max_length=MAX_NAME)

    def title(self) -> str | None:
        """The field `title`."""
        return self.text("title", max_bytes=MAX_TITLE_BYTES)

    def system(self) -> str | None:
        """The instructions, in the field `system`."""
        return self.text("system", max_bytes=MAX_SYSTEM_BYTES)

    def mapping(self, name: str) -> dict[str, Any] | None:
        """A JSON object."""
        return self._get(name, dict, "an object")

    def metadata(self) -> dict[str, Any] | None:
        """The field `metadata`, an object."""
        value = self.mapping("metadata")
        if value and len(msgspec.json.encode(value)) > MAX_METADATA_BYTES:
            raise self.invalid("metadata", f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
        return value

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


def _is_deeper(value: object, depth: int) -> bool:
    """Whether a decoded value is nested more deeply; level by level, without recursion."""
    level = [value]
    for _ in range(depth):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = [each for each in inner if isinstance(each, dict | list)]
    return bool(level)
