"""Every setting, once: its name, default and meaning. Read from the environment over `.env`.

A setting's variable is its field's name in capitals. Whatever is wrong is said all at once.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chat.core.limits import Limits, read_prices, read_rates

VERSION = "0.1.0"
AGENT = "agent"  # the model that stands for whoever has dialled in
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_ENCRYPTION_KEY = re.compile(r"[0-9a-fA-F]{64}")
_WORDS_FOR = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


class BadSettings(Exception):
    """Names every variable that is missing or wrong, one a line."""


def _setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    secret: bool = False,
    alias: str = "",
    choices: tuple[str, ...] = (),
) -> Any:
    facts = {"help": help, "least": least, "secret": secret, "alias": alias, "choices": choices}
    return dataclasses.field(default=default, repr=not secret, metadata=facts)


@dataclass(frozen=True)
class Settings:
    """All knobs. Durations are in seconds, sizes in bytes; an empty text means "not set"."""

    gpt_api_key: str = _setting(
        "",
        "Key of the model API. OPENAI_API_KEY is read too. Needed unless OPENAI_BASE_URL is set, or"
        " GPT_MODEL=agent.",
        secret=True,
        alias="OPENAI_API_KEY",
    )
    openai_base_url: str = _setting(
        "https://api.openai.com/v1", "Base URL of any OpenAI-compatible API."
    )
    gpt_model: str = _setting(
        "gpt-5.4-mini", "Model of a turn that names none; agent: whichever agent is connected."
    )
    system_prompt: str = _setting("", "Instructions of a chat that has none of its own.")
    titles: str = _setting(
        "first-words",
        "Where a new chat's title comes from: first-words, model (asked once, later), or off.",
        choices=("first-words", "model", "off"),
    )
    redis_host: str = _setting("", "Redis host, <name>.upstash.io for instance.")
    redis_port: int = _setting(6379, "Redis port.", least=1)
    redis_password: str = _setting("", "Redis password.", secret=True)
    redis_tls: bool = _setting(False, "TLS to Redis; always on for *.upstash.io.")
    redis_url: str = _setting(
        "", "redis://, rediss:// or unix:// URL, instead of the four above.", secret=True
    )
    redis_cluster: bool = _setting(False, "Redis is a cluster, and this is any node of it.")
    chat_ttl_seconds: float = _setting(
        0.0, "A chat is forgotten so long after its last turn; 0 keeps it for ever.", least=0.0
    )
    max_body_bytes: int = _setting(1024 * 1024, "Largest request body, in bytes.", least=1)
    max_prompt_tokens: int = _setting(
        100_000, "Largest prompt, in tokens by estimate; older turns are left out.", least=1
    )
    upstream_timeout_seconds: float = _setting(
        120.0, "How long the model may be silent before a turn fails.", least=0.1
    )
    keepalive_seconds: float = _setting(
        10.0, "A comment goes to a waiting stream at least this often.", least=0.1
    )
    lease_seconds: float = _setting(
        15.0, "How long a chat stays busy after its instance died.", least=0.5
    )
    queue_seconds: float = _setting(
        30.0, "How long a message waits for the turn before it.", least=0.0
    )
    log_seconds: float = _setting(
        300.0, "How long a turn that has ended can be resumed event by event.", least=1.0
    )
    store_patience_seconds: float = _setting(
        60.0, "How long a turn waits to be stored while Redis is away.", least=0.0
    )
    auth: str = _setting(
        "",
        "Who may talk: open (anybody), keys (user keys made by the admin API), jwt (ID tokens of a sign-in"
        " service), or a list of these. Default: open; on Cloud Run, keys.",
    )
    admin_key: str = _setting(
        "", "Opens /admin; a long random text. Needed with AUTH=keys.", secret=True
    )
    agent_key: str = _setting(
        "",
        "Lets agents in (/client/register). Default: the ADMIN_KEY; with neither, none are let in but from"
        " your own machine.",
        secret=True,
    )
    agent_ping_seconds: float = _setting(
        20.0, "How often a silent agent is asked whether it lives; at most 60.", least=0.1
    )
    rotate_seconds: float = _setting(
        3600.0, "How long a user's old keys live on after they were rotated.", least=0.0
    )
    jwt_issuer: str = _setting("", "`iss` of the ID tokens.")
    jwt_audience: str = _setting("", "`aud` of the ID tokens.")
    jwt_jwks_url: str = _setting("", "Where the keys are that ID tokens are signed with.")
    firebase_project: str = _setting(
        "", "Firebase or Identity Platform project; stands for the three above."
    )
    app_check: str = _setting(
        "off",
        "Firebase App Check: required, optional (checked when there), or off.",
        choices=("required", "optional", "off"),
    )
    app_check_jwks_url: str = _setting(
        "https://firebaseappcheck.googleapis.com/v1/jwks", "Where App Check's keys are."
    )
    rate_limit: str = _setting(
        "", "Turns of one owner in a time: 60/minute, or several: 60/minute,500/day."
    )
    daily_token_budget: int = _setting(
        0, "Tokens of one owner in a day (UTC), in and out; 0: no limit.", least=0
    )
    max_concurrent_turns: int = _setting(
        0, "Turns of one owner that run at once; 0: no limit.", least=0
    )
    global_daily_token_budget: int = _setting(
        0, "Tokens of everybody together in a day; 0: no limit. Not on a Redis Cluster.", least=0
    )
    allowed_models: str = _setting(
        "", "Models a client may name, comma separated, besides GPT_MODEL; empty: any."
    )
    max_output_tokens: int = _setting(
        0, "Most tokens of one answer, whatever a client asks for; 0: no limit.", least=0
    )
    prices: str = _setting(
        "", "Dollars for a million tokens, in and out: gpt-x=0.25/2.00,gpt-y=1/4."
    )
    encryption_key: str = _setting(
        "",
        "Contents are encrypted in Redis under this key: 32 bytes as 64 hex digits (openssl rand -hex 32)."
        " To change it, put a new one in front: new,old.",
        secret=True,
    )
    google_cloud_project: str = _setting(
        "", "Ties the lines of the log to Cloud Trace; deploy.sh sets it."
    )
    cors_origins: str = _setting(
        "", "Origins of web apps, comma separated, or *; empty: no CORS headers."
    )
    k_service: str = _setting("", "Cloud Run sets it, and so tells that it is no local machine.")
    threads: int = _setting(
        256,
        "Requests that one instance serves at once; agents, and turns and readers that RELAY carries, do not count.",
        least=1,
    )
    relay: bool = _setting(
        True,
        "One thread carries all turns and readers; off: each has one of THREADS to its end.",
    )

    @property
    def auth_ways(self) -> frozenset[str]:
        return _words(self.auth)

    @property
    def origins(self) -> frozenset[str]:
        """Of web apps that may ask; "*" among them lets all."""
        return _words(self.cors_origins)

    @property
    def limits(self) -> Limits:
        """Of an owner who has none of its own."""
        return Limits(self.rate_limit, self.daily_token_budget, self.max_concurrent_turns)

    @property
    def key_of_agents(self) -> str:
        return self.agent_key or self.admin_key

    @property
    def lets_agents_in(self) -> bool:
        """With a key; without one, only on a machine of one's own where anybody may talk."""
        return bool(self.key_of_agents) or (self.auth_ways == {"open"} and not self.k_service)

    @property
    def has_upstream(self) -> bool:
        """Whether there is a model API, or agents alone."""
        return bool(self.gpt_api_key) or self.openai_base_url != Settings.openai_base_url

    def may_name(self, model: str) -> bool:
        """Whether a client may ask for this model."""
        if not self.has_upstream:
            return model == AGENT
        allowed = _words(self.allowed_models)
        return not allowed or model in allowed or model == self.gpt_model


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def read_environment(folder: Path) -> dict[str, str]:
    """The environment, over what stands in `<folder>/.env`."""
    file = folder / ".env"
    if not file.exists():  # as in the cloud, where every import makes a cold start longer
        return dict(os.environ)
    from dotenv import dotenv_values

    from_file = {name: value or "" for name, value in dotenv_values(file).items()}
    return from_file | dict(os.environ)


def parse_settings(environment: Mapping[str, str]) -> Settings:
    """Read every setting; raises BadSettings with all that is wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(Settings):
        name = field.name.upper()
        text = environment.get(name) or environment.get(field.metadata["alias"]) or ""
        if text.strip():
            try:
                values[field.name] = _parse(field, text.strip())
            except ValueError as problem:
                problems.append(f"{name}: {problem}")
    values.setdefault("auth", "keys" if "k_service" in values else "open")
    settings = Settings(**values)
    problems += _missing(settings, given=set(values))
    if problems:
        raise BadSettings("Chatkeep cannot start:\n" + "\n".join(f"  {p}" for p in problems))
    return settings


def _parse(field: dataclasses.Field[Any], text: str) -> Any:
    kind: Any = type(field.default)
    if kind is bool:
        if text.lower() not in _WORDS_FOR:
            raise ValueError("must be true or false")
        return _WORDS_FOR[text.lower()]
    if kind is str:
        choices = field.metadata["choices"]
        if choices and text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text
    try:
        number = kind(text)
    except ValueError:
        # The text itself may be a secret that was put into the wrong line.
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"must be {wanted}") from None
    least = field.metadata["least"]
    if not least <= number < float("inf"):
        raise ValueError(f"must be at least {least:g}")
    return number


def _missing(settings: Settings, given: set[str]) -> list[str]:
    problems = []
    if not {"gpt_api_key", "openai_base_url"} & given and settings.gpt_model != AGENT:
        problems.append("GPT_API_KEY: is missing")
    if not {"redis_host", "redis_url"} & given:
        problems.append("REDIS_HOST: is missing (or give REDIS_URL)")
    if settings.agent_ping_seconds > 60:
        problems.append("AGENT_PING_SECONDS: must be at most 60")
    if settings.redis_port > 65535:
        problems.append("REDIS_PORT: must be at most 65535")
    if settings.redis_url and not settings.redis_url.startswith(_REDIS_SCHEMES):
        problems.append("REDIS_URL: must begin with redis://, rediss:// or unix://")
    for name in ("openai_base_url", "jwt_jwks_url", "app_check_jwks_url"):
        if getattr(settings, name) and not _is_url(getattr(settings, name)):
            problems.append(f"{name.upper()}: must be an http:// or https:// URL")
    return problems + _missing_of_access(settings) + _unreadable(settings)


def _missing_of_access(settings: Settings) -> list[str]:
    problems = []
    ways = settings.auth_ways
    if not ways or ways - {"open", "keys", "jwt"}:
        problems.append("AUTH: must be a list of open, keys and jwt")
    if "keys" in ways and not settings.admin_key:
        problems.append("ADMIN_KEY: is missing (AUTH=keys needs it; AUTH=open lets anybody in)")
    jwt_parts = (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url)
    if "jwt" in ways and not settings.firebase_project and not all(jwt_parts):
        problems.append(
            "FIREBASE_PROJECT: is missing (or JWT_ISSUER, JWT_AUDIENCE and JWT_JWKS_URL)"
        )
    if settings.app_check != "off" and not settings.firebase_project:
        problems.append("FIREBASE_PROJECT: is missing (APP_CHECK needs it)")
    if settings.global_daily_token_budget and settings.redis_cluster:
        problems.append("GLOBAL_DAILY_TOKEN_BUDGET: cannot be kept on a Redis Cluster")
    return problems


def _unreadable(settings: Settings) -> list[str]:
    problems = []
    for name, read in (
        ("rate_limit", read_rates),
        ("prices", read_prices),
        ("encryption_key", read_encryption_keys),
    ):
        try:
            read(getattr(settings, name))
        except ValueError as problem:
            problems.append(f"{name.upper()}: {problem}")
    return problems


def read_encryption_keys(text: str) -> list[bytes]:
    """The newest first; raises ValueError."""
    keys = [part.strip() for part in text.split(",") if part.strip()]
    if not all(_ENCRYPTION_KEY.fullmatch(key) for key in keys):
        raise ValueError("must be 64 hex digits, or several such keys with commas between")
    return [bytes.fromhex(key) for key in keys]


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
