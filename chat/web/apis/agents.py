"""The routes of agents: where they connect, where they are asked, and who is connected."""

from flask import Request, Response

from chat.core.credentials import Caller, same
from chat.core.errors import (
    InvalidRequest,
    KeyMissing,
    KeyRejected,
    NotAllowed,
)
from chat.core.messages import timestamp
from chat.host.relay import Relay
from chat.host.shutdown import Shutdown
from chat.models.agents import Agents
from chat.settings import Settings
from chat.web.apis.base import named_chat
from chat.web.auth.access import credential
from chat.web.auth.attempts import Attempts
from chat.web.auth.local import is_local
from chat.web.dialects.agents import AGENTS, BODY, write_error
from chat.web.headers import header
from chat.web.live.answer import Talk
from chat.web.live.handover import HandedOver, take_socket
from chat.web.routes import Route, json_response

_NO_WEBSOCKET = "This path accepts WebSocket connections only."
_NO_SOCKET = "Agents are disabled: this server does not hand over its clients' sockets."


class AgentAuth:
    """Who may connect as an agent."""

    def __init__(self, settings: Settings, attempts: Attempts) -> None:
        self._attempts = attempts
        self._key = settings.key_of_agents
        self._enabled = settings.lets_agents_in
        self._origins = settings.origins

    def check(self, request: Request) -> None:
        """Raises KeyMissing, KeyRejected, NotAllowed, and RateLimited after many wrong keys."""
        self._check_origin(request)
        query = request.args
        given = [credential(request), query.get("key", ""), query.get("admin_key", "")]
        if any(same(key, self._key) for key in given):
            return
        if any(given) and self._key:
            self._attempts.spend()
            raise KeyRejected("This key does not allow agents to connect.")
        if self._key:
            raise KeyMissing("A key is required, in Authorization or as `key` in the query.")
        if not (self._enabled and is_local(request.environ)):
            raise NotAllowed("Agents are disabled: AGENT_KEY is not set.")

    def _check_origin(self, request: Request) -> None:
        """Refuse pages of other origins: browsers do not restrict WebSockets to the same origin."""
        origin = header(request, "Origin", "")
        if not origin or "*" in self._origins or origin in self._origins:
            return
        if origin.partition("://")[2] != request.host:
            raise NotAllowed("This origin is not in CORS_ORIGINS.", param="Origin")


class AgentRoutes:
    """The family of agents."""

    def __init__(
        self,
        agents: Agents,
        auth: AgentAuth,
        talk: Talk,
        shutdown: Shutdown,
        relay: Relay | None,
        max_bytes: int,
    ) -> None:
        self._agents = agents
        self._auth = auth
        self._talk = talk
        self._shutdown = shutdown
        self._relay = relay
        self._max_bytes = max_bytes

    def routes(self) -> list[Route]:
        keys = ("key", "admin_key")
        return [
            Route(
                "GET",
                "/client/register",
                self.register,
                write_error,
                access="anyone",
                status=101,
                query=keys,
            ),
            Route(
                "GET",
                "/api/connections",
                self.connections,
                write_error,
                access="admin",
                query=("admin_key",),
            ),
            Route("POST", "/api/ask", self.ask, write_error, access="turn", body=BODY),
        ]

    def ask(self, request: Request, caller: Caller) -> Response:
        """Ask an agent a question, in a new conversation or in the one named."""
        chat_id, must_exist = named_chat(request, caller)
        return self._talk.say(request, caller, AGENTS, chat_id, must_exist=must_exist)

    def connections(self, request: Request) -> Response:
        """List the connected agents of all instances."""
        return json_response(
            {
                "connections": [
                    {
                        "Ws": {},
                        "Id": agent.agent,
                        "Heartbeat": timestamp(agent.heartbeat_ms),
                        "LastMessageTime": timestamp(agent.message_ms),
                    }
                    for agent in self._agents.connections()
                ]
            }
        )

    def register(self, request: Request) -> Response:
        """Connect as an agent, over a WebSocket."""
        self._auth.check(request)
        if self._relay is None:
            raise NotAllowed("Agents are disabled: THREADS is 1.")
        if header(request, "Upgrade", "").lower() != "websocket":
            raise InvalidRequest(_NO_WEBSOCKET, param="Upgrade")
        # Imported here: most instances never need them, and a cold start should not wait for them.
        from chat.web.live.agent_socket import Session
        from chat.web.live.websocket import Frames

        frames = Frames(request, self._max_bytes)
        client = take_socket(request.environ)
        if client is None:
            raise NotAllowed(_NO_SOCKET)
        session = Session(self._agents, self._shutdown, self._relay, frames, client)
        return HandedOver(self._relay, session, client, 101)
