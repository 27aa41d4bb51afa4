"""The routes of agents: where they dial in, who may, and who is connected."""

from urllib.parse import urlsplit

from flask import Request, Response

from chat.core.credentials import same
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
from chat.web.auth.access import credential
from chat.web.dialects.agents import write_error
from chat.web.headers import header
from chat.web.live.handover import HandedOver, take_socket
from chat.web.routes import Route, json_response

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_NO_WEBSOCKET = "This path speaks WebSocket."


class AgentAuth:
    """Who may dial in."""

    def __init__(self, settings: Settings) -> None:
        self._key = settings.key_of_agents
        self._lets_in = settings.lets_agents_in
        self._origins = settings.origins

    def check(self, request: Request) -> None:
        """Raises KeyMissing, KeyRejected and NotAllowed."""
        self._check_origin(request)
        query = request.args
        given = [credential(request), query.get("key", ""), query.get("admin_key", "")]
        if any(same(key, self._key) for key in given):
            return
        if any(given) and self._key:
            raise KeyRejected("This key lets no agent in.")
        if self._key:
            raise KeyMissing("A key is needed: Authorization, or `key` in the query.")
        # The name as well: a web page may have its own name point to this machine.
        if not (self._lets_in and _hostname(f"//{request.host}") in _LOCAL):
            raise NotAllowed("No agent is let in here: AGENT_KEY is not set.")

    def _check_origin(self, request: Request) -> None:
        """Browsers say which page they dial for; it must be ours, or one of CORS_ORIGINS."""
        origin = header(request, "Origin", "")
        if not origin or "*" in self._origins or origin in self._origins:
            return
        if origin.partition("://")[2] != request.host:
            raise NotAllowed("Pages of this origin may not dial in (CORS_ORIGINS).", param="Origin")


class AgentRoutes:
    """Where agents come in, and where they are listed."""

    def __init__(
        self,
        agents: Agents,
        door: AgentAuth,
        shutdown: Shutdown,
        relay: Relay | None,
        max_bytes: int,
    ) -> None:
        self._agents = agents
        self._door = door
        self._shutdown = shutdown
        self._relay = relay
        self._max_bytes = max_bytes

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/client/register",
                self.register,
                write_error,
                access="anyone",
                status=101,
                query=("key", "admin_key"),
            ),
            Route(
                "GET",
                "/api/connections",
                self.connections,
                write_error,
                access="admin",
                query=("admin_key",),
            ),
        ]

    def connections(self, request: Request) -> Response:
        """All agents that are connected, on all instances."""
        return json_response(
            {
                "connections": [
                    {
                        "Ws": {},
                        "Id": seen.agent,
                        "Heartbeat": timestamp(seen.heartbeat_ms),
                        "LastMessageTime": timestamp(seen.message_ms),
                    }
                    for seen in self._agents.connections()
                ]
            }
        )

    def register(self, request: Request) -> Response:
        """Dial in as an agent, over a WebSocket."""
        self._door.check(request)
        if self._relay is None:
            raise NotAllowed("No agent is let in here: THREADS is 1.")
        if header(request, "Upgrade", "").lower() != "websocket":
            raise InvalidRequest(_NO_WEBSOCKET, param="Upgrade")
        # Few instances need it: a cold start does not wait for it.
        from chat.web.live.agent_socket import Session
        from chat.web.live.websocket import Frames

        frames = Frames(request, self._max_bytes)
        client = take_socket(request.environ)
        if client is None:
            raise InvalidRequest(_NO_WEBSOCKET, param="Upgrade")
        session = Session(self._agents, self._shutdown, self._relay, frames, client)
        return HandedOver(self._relay, session, client, 101)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
