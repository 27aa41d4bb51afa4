"""Puts the app together; the only place that constructs clients."""

from collections.abc import Callable
from functools import partial
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from chat.host.gate import give_memory_back
from chat.host.intake import Intake
from chat.host.relay import Relay
from chat.host.shutdown import Shutdown
from chat.models.agents import Agents
from chat.models.choice import Models
from chat.models.providers import Providers
from chat.models.titles import Titles
from chat.settings import Settings, read_encryption_keys
from chat.store.agent_pool import Pool
from chat.store.chats import Chats
from chat.store.health import Health
from chat.store.history import History
from chat.store.queue import ChatQueue
from chat.store.store import Store
from chat.store.turn_log import TurnLog
from chat.store.turn_log_writer import TurnLogWriter
from chat.store.users import Users
from chat.store.vault import Vault
from chat.turns.owners import Owners
from chat.turns.turns import Turns
from chat.web.access_log import RequestEntry, write_json_lines
from chat.web.apis.account import AccountRoutes
from chat.web.apis.admin import AdminRoutes
from chat.web.apis.agents import AgentAuth, AgentRoutes
from chat.web.apis.ask import AskRoutes
from chat.web.apis.completion import CompletionRoutes
from chat.web.apis.conversations import ConversationsRoutes
from chat.web.apis.native import NativeRoutes
from chat.web.apis.openai import openai_routes
from chat.web.auth.access import Access
from chat.web.auth.attempts import Attempts
from chat.web.live.answer import Talk
from chat.web.openapi import OpenApi
from chat.web.refusals import refuse_by_head, write_refusal
from chat.web.routes import Router

_REDIS_SECONDS = 1.5
_LATE_SECONDS = 5.0  # how much longer than its own time-out a blocking read may take
_MAX_CONNECTIONS = 4096


def build(settings: Settings) -> Router:
    """What answers requests; connections are opened on first use."""
    give_memory_back()
    shutdown = Shutdown()
    shutdown.watch()
    write_json_lines(settings)
    # Two clients: blocking reads of turn logs must not exhaust the connections of everything else.
    store, blocking = (_store(settings, _REDIS_SECONDS) for _ in range(2))
    health = Health(store, chats_expire=settings.chat_ttl_seconds > 0)
    health.look_soon()
    vault = Vault(read_encryption_keys(settings.encryption_key))
    history, chats = History(store, vault, settings), Chats(store, vault, settings)
    users = Users(store)
    providers = Providers(settings)
    logs, writer = TurnLog(store, blocking, vault), TurnLogWriter(store, vault)
    agents = _agents(settings, store, vault)
    models = Models(providers, agents, settings)
    turns = Turns(history, chats, logs, writer, models, users, settings, shutdown, ChatQueue(store))
    owners = Owners(users, chats, history, turns, settings)
    # The relay occupies one of the server's threads for good; there must be others.
    threads, keepalive_seconds = settings.threads, settings.keepalive_seconds
    relay = (
        Relay(keepalive_seconds, settings.client_timeout_seconds, threads) if threads > 1 else None
    )
    talk = Talk(
        turns, Titles(chats, history, providers.main, settings), vault, keepalive_seconds, relay
    )
    max_bytes, attempts = settings.max_body_bytes, Attempts()
    agent_auth = AgentAuth(settings, attempts)
    routes = [
        *NativeRoutes(turns, history, chats, talk, health).routes(),
        *ConversationsRoutes(turns, history, chats, talk).routes(),
        *AskRoutes(turns, history, chats, talk).routes(),
        *CompletionRoutes(turns, history, chats, talk).routes(),
        *openai_routes(turns, history, chats, talk, settings),
        *AccountRoutes(owners).routes(),
        *AgentRoutes(agents, agent_auth, talk, shutdown, relay, max_bytes).routes(),
        *AdminRoutes(users, owners, settings.rotate_seconds).routes(),
    ]
    return Router(
        OpenApi(routes).routes,
        Access(settings, users, attempts),
        relay,
        max_body_bytes=max_bytes,
        origins=settings.origins,
        observe=_telemetry(settings),
    )


def guard_server(settings: Settings, router: Callable[[], Router]) -> None:
    """Have the server give a request a thread when it is whole, and refuse in our words.

    Before its workers are forked; a server that is not gunicorn stays as it is.
    """
    Intake(
        settings.max_body_bytes,
        settings.client_timeout_seconds,
        partial(write_refusal, settings.origins),
        lambda head, peer: refuse_by_head(router(), head, peer),
    ).install()


def _telemetry(settings: Settings) -> Callable[[RequestEntry], None] | None:
    """Traces and metrics, when they are wanted; else the module is not imported."""
    if not settings.otel_exporter_otlp_endpoint:
        return None
    from chat.web.telemetry import Telemetry

    return Telemetry(settings).observe


def _agents(settings: Settings, store: Store, vault: Vault) -> Agents:
    ping_seconds = settings.agent_ping_seconds
    inbox = _store(settings, ping_seconds + _LATE_SECONDS)
    return Agents(
        Pool(store, inbox, vault, ping_seconds),
        enabled=settings.lets_agents_in,
        ping_seconds=ping_seconds,
        silence_seconds=settings.upstream_timeout_seconds,
    )


def _store(settings: Settings, seconds: float) -> Store:
    return Store(
        lambda: connect_redis(settings, seconds),
        lock_keys_only=_is_upstash(settings),
        cluster=settings.redis_cluster,
        key_prefix=settings.redis_key_prefix,
    )


def connect_redis(settings: Settings, seconds: float) -> Redis:
    """A connection pool that gives up within two seconds, so that no request hangs on Redis.

    A connection that died while idle is retried once, at once; a time-out is not retried. RESP2 and
    no driver info save a round trip each when connecting.
    """
    options: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": _REDIS_SECONDS,
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "max_connections": _MAX_CONNECTIONS,
        "protocol": 2,
        "driver_info": None,
    }
    kind: Any = RedisCluster if settings.redis_cluster else Redis
    client: Redis
    if settings.redis_url:
        client = kind.from_url(settings.redis_url, **options)
        return client
    client = kind(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password or None,
        ssl=settings.redis_tls or _is_upstash(settings),
        **options,
    )
    return client


def _is_upstash(settings: Settings) -> bool:
    return ".upstash.io" in f"{settings.redis_host}{settings.redis_url}"
