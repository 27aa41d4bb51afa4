"""A call of the model, driven by hand."""

import msgspec

from chat.core.completions import ChatRequest, PromptMessage
from chat.host.flow import wait_for
from chat.models.upstream import Call


def request(text: str = "x", model: str = "m", *, stream: bool = False) -> ChatRequest:
    """A prompt of one message."""
    message = PromptMessage("user", msgspec.Raw(msgspec.json.encode(text)))
    return ChatRequest(model, [message], stream=stream)


def read_once(call: Call, max_seconds: float) -> bytes | None:
    """Drive a call of the model for a moment; what has come, b"" at its end."""
    wait_for(call.waits_for(), max_seconds)
    call.work()
    return call.read()
