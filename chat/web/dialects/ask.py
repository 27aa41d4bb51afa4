"""`/ask`: one question, one answer."""

from chat.core.messages import Ask, AssistantMessage
from chat.web.dialects import CONTENT, NAME, Body, Dialect, Schema
from chat.web.dialects.native import write_event


def read_request(raw: bytes, accept: str) -> Ask:
    """The body of POST /ask; raises InvalidRequest."""
    return Ask(content=Body(raw).content("prompt"))


def write_answer(answer: AssistantMessage) -> object:
    """A turn's answer, with the `conversation_id` that clients need for their next question."""
    return {"response": {"message": answer.content}, "conversation_id": answer.chat_id}


BODY: Schema = {"prompt": CONTENT, "conversation_id": NAME}
ASK = Dialect(read_request, write_answer, write_event)
