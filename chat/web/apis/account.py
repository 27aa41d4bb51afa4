"""/me: what an owner may see, take along and have forgotten."""

import itertools
from collections.abc import Iterator

import msgspec
from flask import Request, Response

from chat.core.credentials import Caller
from chat.core.errors import ChatkeepError
from chat.turns.owners import Owners
from chat.web.routes import Route, json_response


class AccountRoutes:
    """The owner's own affairs."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/me", self.describe),
            Route("GET", "/me/export", self.export),
            Route("DELETE", "/me", self.erase, status=204),
        ]

    def describe(self, request: Request, caller: Caller) -> Response:
        """Who you are, your limits, and what you have used today and this month."""
        return json_response(self._owners.describe(caller.owner))

    def export(self, request: Request, caller: Caller) -> Response:
        """Every chat and message of yours, as lines of JSON."""
        lines = self._owners.export(caller.owner)
        first = list(itertools.islice(lines, 1))  # what goes wrong at once still has a status
        headers = {"Content-Disposition": 'attachment; filename="chats.ndjson"'}
        return Response(
            _to_the_end(first, lines), 200, headers, content_type="application/x-ndjson"
        )

    def erase(self, request: Request, caller: Caller) -> Response:
        """Forget you: your chats, your keys, your usage."""
        self._owners.erase(caller.owner, keep_rate_status=not caller.key_hash)
        return Response(status=204)


def _to_the_end(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from first
        yield from rest
    except ChatkeepError as error:
        yield msgspec.json.encode({"type": "error", **error.body()}) + b"\n"
