"""A turn as the stream of events of the Responses API.

Every number follows from the answer alone, so that any instance gives an event the number it had the
first time: a delta's is that of its last character. So numbers grow by one for each character, and a
client that comes back with `starting_after` goes on at exactly the next one.

    0 created   (1 queued, in the background)   in_progress   item.added   part.added
    one number for each character of the text
    text.done   part.done   item.done   four for each tool call   six for the reasoning   the end
"""

from typing import Any

import msgspec

from chat.core.events import Delta, Ended, Event, KeepAlive, Started
from chat.core.messages import AssistantMessage, read_answer
from chat.web.dialects.openai.chat import PING
from chat.web.dialects.openai.errors import translate_event
from chat.web.dialects.openai.items import message_item, text_part
from chat.web.dialects.openai.responses import empty_response, output_of, write_response

_OPENING = 2  # created, in_progress
_ITEM = 2  # item.added, part.added


class ResponseWriter:
    """Writes the events above the number `after`. `created`: in Unix seconds."""

    def __init__(
        self,
        model: str,
        created: int,
        echo: dict[str, Any],
        *,
        after: int = -1,
        single: bool = False,
    ) -> None:
        self._model, self._created, self._echo = model, created, echo
        self._after = after
        self._single = single  # one event for each character: any number can be the last seen
        self._is_background = bool(echo.get("background"))
        self._number = 0
        self._chat_id = self._message_id = ""
        self._has_item = False
        self._delta_head = b""

    @property
    def text_begins(self) -> int:
        """The number of the last event before the text."""
        return _OPENING + self._is_background + _ITEM - 1

    @property
    def first_offset(self) -> int:
        """The character from which on the text is wanted."""
        return max(0, self._after - self.text_begins)

    def write(self, mark: bytes, event: Event) -> bytes:
        """One event of a turn."""
        match event:
            case Delta():
                return self._open_item() + self._delta(event)
            case KeepAlive():
                return PING
            case Started():
                return self._begin(event)
            case Ended():
                return self._end(event)
            case _:
                return b""

    def accepted(self, started: Started) -> dict[str, Any]:
        """The response to a request that is answered in the background."""
        self._learn(started)
        return self._empty("in_progress")

    def _learn(self, started: Started) -> None:
        self._chat_id, self._message_id = started.ids.chat_id, started.ids.message_id

    @property
    def _item_id(self) -> str:
        return f"{self._message_id}_{self._chat_id}"

    def _empty(self, status: str) -> dict[str, Any]:
        message_id, chat_id = self._message_id, self._chat_id
        return empty_response(message_id, chat_id, self._model, self._created, status, self._echo)

    def _begin(self, event: Started) -> bytes:
        self._learn(event)
        status = "queued" if self._is_background else "in_progress"
        events = [self._next("response.created", {"response": self._empty(status)})]
        if self._is_background:
            events.append(self._next("response.queued", {"response": self._empty("queued")}))
        running = {"response": self._empty("in_progress")}
        events.append(self._next("response.in_progress", running))
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        self._delta_head = msgspec.json.encode(
            {"type": "response.output_text.delta", **place, "logprobs": []}
        )[:-1]
        return b"".join(events)

    def _open_item(self) -> bytes:
        if self._has_item:
            return b""
        self._has_item = True
        item = message_item(self._item_id, "", "in_progress") | {"content": []}
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        return self._next(
            "response.output_item.added", {"output_index": 0, "item": item}
        ) + self._next("response.content_part.added", place | {"part": text_part("")})

    def _delta(self, event: Delta) -> bytes:
        number = self.text_begins + event.offset
        text = event.text[-max(0, number - self._after) :] if number > self._after else ""
        self._number = number + 1
        if self._single:
            first = number - len(text) + 1
            return b"".join(self._text_event(first + at, char) for at, char in enumerate(text))
        return self._text_event(number, text) if text else b""

    def _text_event(self, number: int, text: str) -> bytes:
        return (
            b'event: response.output_text.delta\ndata: %b,"delta":%b,"sequence_number":%d}\n\n'
            % (
                self._delta_head,
                msgspec.json.encode(text),
                number,
            )
        )

    def _next(self, kind: str, data: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        body = msgspec.json.encode({"type": kind, **data, "sequence_number": number})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)

    def _end(self, event: Ended) -> bytes:
        answer = read_answer(bytes(event.message)) if event.message else None
        if event.ending in ("failed", "interrupted") or answer is None:
            return self._fail(event, answer)
        response = write_response(answer, self._echo)
        parts = []
        for index, item in enumerate(response["output"]):
            match item["type"]:
                case "message":
                    parts.append(self._open_item() + self._end_text(answer, index, item))
                case "reasoning":
                    parts.append(self._reasoning(index, item))
                case _:
                    parts.append(self._call(index, item))
        kind = "incomplete" if response["status"] == "incomplete" else "completed"
        return b"".join([*parts, self._next(f"response.{kind}", {"response": response})])

    def _fail(self, event: Ended, answer: AssistantMessage | None) -> bytes:
        error = translate_event(event.error)
        said = {"code": "server_error", "message": error["message"]}
        response = self._empty("failed")
        if answer:
            response = write_response(answer, self._echo) | {"status": "failed"}
            response["output"] = output_of(answer)
        return self._next("response.failed", {"response": response | {"error": said}})

    def _end_text(self, answer: AssistantMessage, index: int, item: dict[str, Any]) -> bytes:
        self._number = self.text_begins + len(answer.content) + 1
        place = {"item_id": self._item_id, "output_index": index, "content_index": 0}
        text = {"text": answer.content, "logprobs": []}
        return b"".join(
            [
                self._next("response.output_text.done", place | text),
                self._next("response.content_part.done", place | {"part": item["content"][0]}),
                self._next("response.output_item.done", {"output_index": index, "item": item}),
            ]
        )

    def _call(self, index: int, item: dict[str, Any]) -> bytes:
        is_function = item["type"] == "function_call"
        field = "arguments" if is_function else "input"
        name = "function_call_arguments" if is_function else "custom_tool_call_input"
        place = {"item_id": item["id"], "output_index": index}
        empty = item | {field: "", "status": "in_progress"}
        return b"".join(
            [
                self._next("response.output_item.added", {"output_index": index, "item": empty}),
                self._next(f"response.{name}.delta", place | {"delta": item[field]}),
                self._next(f"response.{name}.done", place | {field: item[field]}),
                self._next("response.output_item.done", {"output_index": index, "item": item}),
            ]
        )

    def _reasoning(self, index: int, item: dict[str, Any]) -> bytes:
        text = item["summary"][0]["text"]
        part = {"type": "summary_text", "text": text}
        place = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        empty = item | {"summary": [], "status": "in_progress"}
        kind = "response.reasoning_summary"
        return b"".join(
            [
                self._next("response.output_item.added", {"output_index": index, "item": empty}),
                self._next(f"{kind}_part.added", place | {"part": part | {"text": ""}}),
                self._next(f"{kind}_text.delta", place | {"delta": text}),
                self._next(f"{kind}_text.done", place | {"text": text}),
                self._next(f"{kind}_part.done", place | {"part": part}),
                self._next("response.output_item.done", {"output_index": index, "item": item}),
            ]
        )
