"""A call of the model, driven by hand."""

from chat.host.flow import wait_for
from chat.models.upstream import Call


def read_once(call: Call, max_seconds: float) -> bytes | None:
    """Drive a call of the model for a moment; what has come, b"" at its end."""
    wait_for(call.waits_for(), max_seconds)
    call.work()
    return call.read()
