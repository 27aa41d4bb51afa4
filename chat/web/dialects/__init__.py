"""Wire shapes, one pure file per HTTP API; here is what they share, and in what they differ.

    native.py agents.py ask.py completion.py conversations.py

A further one needs a file here that ends in a `Dialect`, and its routes in `chat/web/apis`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from chat.core.errors import ChatkeepError, InvalidRequest
from chat.core.events import Event
from chat.core.messages import Ask, AssistantMessage

T = TypeVar("T")


def write_error(error: ChatkeepError) -> object:
    """The one shape of an error, OpenAI's."""
    return error.body()


class Dialect(msgspec.Struct, frozen=True):
    """How an API speaks of a turn."""

    read_request: Callable[[bytes, str], Ask]  # of the body, and of the header Accept
    write_answer: Callable[[AssistantMessage], object]
    write_event: Callable[[Event], bytes]  # b"" says nothing
    answer_status: int = 200
    stream_type: str = "text/event-stream"
    write_error: Callable[[ChatkeepError], object] = write_error


Schema = dict[str, dict[str, object]]  # JSON Schema of each field of a body
TEXT: dict[str, object] = {"type": "string"}
OBJECT: dict[str, object] = {"type": "object"}
FLAG: dict[str, object] = {"enum": [True, False, "true", "false"]}
CONTENT: dict[str, object] = {
    "oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1}]
}


class Body:
    """A JSON object from a client; each getter returns None for an absent (or null) field."""

    def __init__(self, raw: bytes) -> None:
        """Raises InvalidRequest when the bytes are not a JSON object in UTF-8."""
        try:
            fields = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error
        if not isinstance(fields, dict):
            raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
        self.fields: dict[str, Any] = fields

    def text(self, name: str, *, longest: int | None = None) -> str | None:
        value = self._get(name, str, "a text")
        if value and longest and len(value) > longest:
            raise self.invalid(name, f"must have at most {longest} characters")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        return self._get(name, dict, "an object")

    def number(self, name: str, *, least: float, most: float) -> float | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.invalid(name, "must be a number")
        if not least <= value <= most:
            raise self.invalid(name, f"must be from {least:g} to {most:g}")
        return value

    def whole_number(self, name: str, *, least: int, most: int) -> int | None:
        value = self.number(name, least=least, most=most)
        if value is not None and not isinstance(value, int):
            raise self.invalid(name, "must be a whole number")
        return value

    def flag(self, name: str) -> bool | None:
        """A bool, or one of the strings "true" and "false"."""
        value = self.fields.get(name)
        if value is None or isinstance(value, bool):
            return value
        if value not in ("true", "false"):
            raise self.invalid(name, "must be true or false")
        return bool(value == "true")

    def choice(self, name: str, options: tuple[T, ...]) -> T | None:
        value = self.fields.get(name)
        if value is not None and value not in options:
            raise self.invalid(name, f"must be one of {', '.join(map(str, options))}")
        return value

    def content(self, name: str) -> msgspec.Raw:
        """What a person says: a text, or a list of content parts; never absent or empty."""
        value = self.fields.get(name)
        if value is None:
            raise InvalidRequest(f"`{name}` is missing.", param=name, code="missing_field")
        if isinstance(value, list):
            for part in value:
                self._check_part(name, part)
        elif not isinstance(value, str):
            raise self.invalid(name, "must be a text or a list of content parts")
        if not value:
            raise self.invalid(name, "must not be empty")
        return msgspec.Raw(msgspec.json.encode(value))

    def invalid(self, name: str, rule: str) -> InvalidRequest:
        return InvalidRequest(f"`{name}` {rule}.", param=name)

    def _check_part(self, name: str, part: Any) -> None:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise self.invalid(name, "must be a list of objects that have a `type`")
        if part["type"] == "text" and not (isinstance(part.get("text"), str) and part["text"]):
            raise self.invalid(name, "has a text part without text")

    def _get(self, name: str, kind: type[T], called: str) -> T | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.invalid(name, f"must be {called}")
        return value
