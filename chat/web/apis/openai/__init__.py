"""The routes of the OpenAI API, with and without a chat in the path.

chat.py    /v1/chat/completions
models.py  /v1/models, and what is not there
"""

from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.turns.turns import Turns
from chat.web.apis.openai.chat import ChatCompletionRoutes
from chat.web.apis.openai.models import ModelRoutes
from chat.web.live.answer import Talk
from chat.web.routes import Route


def openai_routes(
    turns: Turns, history: History, chats: Chats, talk: Talk, settings: Settings
) -> list[Route]:
    """All of them."""
    return [
        *ChatCompletionRoutes(turns, history, chats, talk, settings).routes(),
        *ModelRoutes(settings).routes(),
    ]
