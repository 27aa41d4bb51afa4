"""`/conversation`: create, complete, list; streamed as plain text."""

from chat.core.events import Delta, Ended, Event
from chat.core.messages import Ask, AssistantMessage, UserMessage, plain_text
from chat.web.dialects import CONTENT, FLAG, Body, Dialect, Schema


def read_request(raw: bytes, accept: str) -> Ask:
    """The body of POST /conversation/completion/<id>; raises InvalidRequest."""
    body = Body(raw)
    return Ask(content=body.content("message"), stream=body.flag("stream") or False)


def write_answer(answer: AssistantMessage) -> object:
    """A turn's answer."""
    return {
        "id": answer.id,
        "author": "assistant",
        "content": answer.content,
        "created_at": answer.created_at,
    }


def write_event(mark: bytes, event: Event) -> bytes:
    """One event as plain text; this format can report a failure only as more text."""
    if isinstance(event, Delta):
        return event.text.encode()
    if isinstance(event, Ended) and event.ending in ("failed", "interrupted"):
        return b"\n[The answer broke off here.]\n"
    return b""


def write_conversation(
    chat_id: str, created_at: str, messages: list[UserMessage | AssistantMessage]
) -> object:
    """A conversation with its messages."""
    return {
        "id": chat_id,
        "messages": [
            write_answer(m) if isinstance(m, AssistantMessage) else _user_message(m)
            for m in messages
        ],
        "created_at": created_at,
    }


def _user_message(message: UserMessage) -> object:
    return {
        "id": message.id,
        "author": "user",
        "content": plain_text(message.content),
        "created_at": message.created_at,
    }


BODY: Schema = {"message": CONTENT, "stream": FLAG}
COMPLETION = Dialect(
    read_request, write_answer, write_event, stream_type="text/plain; charset=utf-8"
)
