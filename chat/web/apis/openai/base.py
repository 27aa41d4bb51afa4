"""What the routes of the OpenAI API share."""

from typing import Any, NoReturn

from flask import Request

from chat.core.errors import InvalidRequest
from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.turns.turns import Turns
from chat.web.apis.base import ChatRoutes
from chat.web.dialects.openai.errors import translate
from chat.web.live.answer import Talk
from chat.web.routes import Handler, Route, whole_number

_PAGE = 20
_MAX_PAGE = 100


class OpenAiRoutes(ChatRoutes):
    """A part of the OpenAI API."""

    def __init__(
        self, turns: Turns, history: History, chats: Chats, talk: Talk, settings: Settings
    ) -> None:
        super().__init__(turns, history, chats, talk)
        self._settings = settings

    def _both(self, method: str, path: str, handler: Handler, **more: Any) -> list[Route]:
        """The route, and the same under a chat."""
        paths = (path, f"/<chat_id>{path}")
        return [Route(method, each, handler, translate=translate, **more) for each in paths]


def list_page(request: Request, items: list[Any]) -> dict[str, Any]:
    """A page of a list, as the query asks for it: `order`, `after`, `limit`; newest first."""
    limit = whole_number(request, "limit", default=_PAGE, minimum=1, maximum=_MAX_PAGE)
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` must be asc or desc.", param="order")
    items = items if order == "asc" else items[::-1]
    if after := request.args.get("after"):
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest("`after` is not an item of this list.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }


def never(raw: bytes, accept: str) -> NoReturn:
    """For a dialect whose requests are read before a turn begins."""
    raise AssertionError("the request has been read")
