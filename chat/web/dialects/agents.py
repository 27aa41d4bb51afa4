"""`/api/ask`: one question to an agent, one answer."""

from chat.core.errors import ChatkeepError
from chat.core.messages import Ask, AssistantMessage
from chat.web.dialects import CONTENT, NAME, Body, Dialect, Schema
from chat.web.dialects.native import write_event


def read_request(raw: bytes, accept: str) -> Ask:
    """The body of POST /api/ask; raises InvalidRequest."""
    body = Body(raw)
    parent_id = body.name("parent_id") or None
    return Ask(content=body.content("content"), parent_id=parent_id, prefers_agents=True)


def write_answer(answer: AssistantMessage) -> object:
    """A turn's answer; `id` is the id of the turn."""
    return {
        "id": answer.turn_id,
        "response_id": answer.id,
        "conversation_id": answer.chat_id,
        "content": answer.content,
        "error": "",
    }


def write_error(error: ChatkeepError) -> object:
    """An error as a plain string, as clients of this API expect."""
    return {"error": error.message}


BODY: Schema = {"content": CONTENT, "conversation_id": NAME, "parent_id": NAME}
AGENTS = Dialect(read_request, write_answer, write_event, write_error=write_error)
