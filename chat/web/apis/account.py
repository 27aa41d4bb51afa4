"""The routes of /me: owners see, export and delete their data."""

import itertools
from collections.abc import Iterator

import msgspec
from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import ChatkeepError
from chat.turns.owners import Owners
from chat.web.routes import Route, json_response


class AccountRoutes:
    """The family of /me."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/me", self.describe),
            Route("GET", "/me/export", self.export),
            Route("DELETE", "/me", self.erase, status=204),
        ]

    def describe(self, request: Request, caller: Caller) -> Response:
        """Describe you: your id, your limits, and your usage today and this month."""
        return json_response(self._owners.describe(caller.owner))

    def export(self, request: Request, caller: Caller) -> Response:
        """Export your chats and messages as newline-delimited JSON."""
        lines = self._owners.export(caller.owner)
        first = list(itertools.islice(lines, 1))  # so that an early error still gets an HTTP status
        headers = {"Content-Disposition": 'attachment; filename="chats.ndjson"'}
        return Response(
            _with_error_line(first, lines), 200, headers, content_type="application/x-ndjson"
        )

    def erase(self, request: Request, caller: Caller) -> Response:
        """Delete your chats, your keys and your usage."""
        self._owners.erase(caller.owner, keep_rate_status=not caller.key_hash)
        return Response(status=204)


def _with_error_line(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """The lines; if reading them fails, the last one is the error."""
    try:
        yield from first
        yield from rest
    except ChatkeepError as error:
        yield msgspec.json.encode({"type": "error", **error.body()}) + b"\n"
