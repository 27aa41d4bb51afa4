"""Taking a client's socket out of the server's hands, so that the relay answers over it.

gunicorn cannot detach a connection: we `dup` the client's socket, then `dup2` a dead one over
gunicorn's descriptor. Whatever the server still writes, shuts down and closes, the client does not
notice.
"""

import os
import socket
from collections.abc import Iterable
from typing import Any

from flask import Response

from chat.host.relay import Relay
from chat.host.source import Source


class HandedOver(Response):
    """What the server is given in place of an answer that the relay gives.

    The headers that every answer has gather here, and what is to be done when it is closed.
    """

    def __init__(self, relay: Relay, source: Source, client: socket.socket, status: int) -> None:
        super().__init__(status=status)
        self.headers.clear()
        self._relay, self._source, self._client = relay, source, client

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(self.status, [])  # the server insists; what it writes goes nowhere
        self._relay.carry(self._source, self._client, self.close)
        return self._relay.stay()


def take_socket(environ: Any) -> socket.socket | None:
    """The client's socket, non-blocking; None where the server keeps it, or it was taken before."""
    theirs = environ.get("gunicorn.socket")
    if type(theirs) is not socket.socket or environ["REQUEST_METHOD"] == "HEAD":
        return None
    try:
        ours, dead = theirs.dup(), socket.socket()
    except OSError:  # out of descriptors
        return None
    with dead:
        # Atomically: no other thread can be given the descriptor between a close and a dup.
        os.dup2(dead.fileno(), theirs.fileno(), inheritable=False)
    ours.setblocking(False)
    environ["gunicorn.socket"] = None
    return ours
