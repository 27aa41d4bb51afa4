"""The routes of the OpenAI API, with and without a chat in the path.

chat.py           /v1/chat/completions
responses.py      /v1/responses
conversations.py  /v1/conversations
models.py         /v1/models, and what is not there
base.py           what they share
"""

from chat.settings import Settings
from chat.store.chats import Chats
from chat.store.history import History
from chat.turns.turns import Turns
from chat.web.apis.openai.chat import ChatCompletionRoutes
from chat.web.apis.openai.conversations import ConversationRoutes
from chat.web.apis.openai.models import ModelRoutes
from chat.web.apis.openai.responses import ResponseRoutes
from chat.web.live.answer import Talk
from chat.web.routes import Route


def openai_routes(
    turns: Turns, history: History, chats: Chats, talk: Talk, settings: Settings
) -> list[Route]:
    """All of them."""
    parts = (ChatCompletionRoutes, ResponseRoutes, ConversationRoutes)
    return [
        *(
            route
            for part in parts
            for route in part(turns, history, chats, talk, settings).routes()
        ),
        *ModelRoutes(settings).routes(),
    ]
