"""The table of settings: name, type, bounds, default and help of each, and what they add up to."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chat.core.limits import Limits

AGENT = "agent"  # as a model: whichever agent is connected
_OPENAI_URL = "https://api.openai.com/v1"
_SECRET = {"secret": True}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting. Durations are in seconds, sizes in bytes; an empty text means "not set"."""

    gpt_api_key: Annotated[
        str,
        Meta(
            description="Key of the model API; OPENAI_API_KEY is read as well."
            " Required unless OPENAI_BASE_URL is set or GPT_MODEL=agent.",
            extra=_SECRET | {"alias": "OPENAI_API_KEY"},
        ),
    ] = ""
    openai_base_url: Annotated[str, Meta(description="Base URL of any OpenAI-compatible API.")] = (
        _OPENAI_URL
    )
    gpt_model: Annotated[
        str,
        Meta(description="Model of a turn that names none; `agent`: whichever agent is connected."),
    ] = "gpt-5.4-mini"
    system_prompt: Annotated[
        str, Meta(description="System prompt of a chat that has none of its own.")
    ] = ""
    titles: Annotated[
        Literal["first-words", "model", "off"],
        Meta(
            description="How a new chat gets its title: `first-words` of its first message,"
            " `model` (asks the model once, after the first answer) or `off`."
        ),
    ] = "first-words"
    redis_host: Annotated[str, Meta(description="Redis host, e.g. <name>.upstash.io.")] = ""
    redis_port: Annotated[int, Meta(ge=1, le=65535, description="Redis port.")] = 6379
    redis_password: Annotated[str, Meta(description="Redis password.", extra=_SECRET)] = ""
    redis_tls: Annotated[
        bool, Meta(description="Use TLS to Redis; always on for *.upstash.io.")
    ] = False
    redis_url: Annotated[
        str,
        Meta(
            description="redis://, rediss:// or unix:// URL; replaces the four settings above.",
            extra=_SECRET,
        ),
    ] = ""
    redis_cluster: Annotated[
        bool, Meta(description="Redis is a cluster; the address is that of any of its nodes.")
    ] = False
    chat_ttl_seconds: Annotated[
        float, Meta(ge=0, description="Chats expire this long after their last turn; 0: never.")
    ] = 0.0
    max_body_bytes: Annotated[int, Meta(ge=1, description="Largest request body, in bytes.")] = (
        1024 * 1024
    )
    max_prompt_tokens: Annotated[
        int,
        Meta(ge=1, description="Largest prompt, in estimated tokens; older turns are left out."),
    ] = 100_000
    upstream_timeout_seconds: Annotated[
        float, Meta(ge=0.1, description="How long the model may be silent before a turn fails.")
    ] = 120.0
    keepalive_seconds: Annotated[
        float, Meta(ge=0.1, description="Longest silence on a stream before a keep-alive comment.")
    ] = 10.0
    lease_seconds: Annotated[
        float,
        Meta(ge=0.5, description="How long a chat stays locked after its instance has died."),
    ] = 15.0
    queue_seconds: Annotated[
        float, Meta(ge=0, description="How long a message waits for the running turn to end.")
    ] = 30.0
    log_seconds: Annotated[
        float,
        Meta(ge=1, description="How long a finished turn can be resumed event by event."),
    ] = 300.0
    store_patience_seconds: Annotated[
        float,
        Meta(ge=0, description="How long a finished turn retries to be stored if Redis is down."),
    ] = 60.0
    auth: Annotated[
        str,
        Meta(
            description="Who may use the chats: `open` (anybody), `keys` (user keys made by the"
            " admin API), `jwt` (ID tokens of a sign-in service), or a comma-separated list."
            " Default: `open`; on Cloud Run, `keys`."
        ),
    ] = ""
    admin_key: Annotated[
        str,
        Meta(
            description="Key of /admin; a long random text. Required with AUTH=keys.",
            extra=_SECRET,
        ),
    ] = ""
    agent_key: Annotated[
        str,
        Meta(
            description="Key that agents connect with (/client/register). Default: ADMIN_KEY;"
            " without either, agents may connect only to a local server with AUTH=open.",
            extra=_SECRET,
        ),
    ] = ""
    agent_ping_seconds: Annotated[
        float, Meta(ge=0.1, le=60, description="How often a silent agent is pinged; at most 60.")
    ] = 20.0
    rotate_seconds: Annotated[
        float, Meta(ge=0, description="How long old user keys stay valid after a rotation.")
    ] = 3600.0
    jwt_issuer: Annotated[str, Meta(description="Expected `iss` of ID tokens.")] = ""
    jwt_audience: Annotated[str, Meta(description="Expected `aud` of ID tokens.")] = ""
    jwt_jwks_url: Annotated[
        str, Meta(description="URL of the keys (JWKS) that ID tokens are signed with.")
    ] = ""
    firebase_project: Annotated[
        str,
        Meta(
            description="Firebase or Identity Platform project; replaces the three settings above."
        ),
    ] = ""
    app_check: Annotated[
        Literal["required", "optional", "off"],
        Meta(
            description="Firebase App Check: `required`, `optional` (checked if present) or `off`."
        ),
    ] = "off"
    app_check_jwks_url: Annotated[
        str, Meta(description="URL of the keys (JWKS) that App Check tokens are signed with.")
    ] = "https://firebaseappcheck.googleapis.com/v1/jwks"
    rate_limit: Annotated[
        str,
        Meta(description="Turns per owner and period, e.g. 60/minute or 60/minute,500/day."),
    ] = ""
    daily_token_budget: Annotated[
        int,
        Meta(ge=0, description="Tokens per owner and day (UTC), input plus output; 0: no limit."),
    ] = 0
    max_concurrent_turns: Annotated[
        int, Meta(ge=0, description="Turns per owner that may run at once; 0: no limit.")
    ] = 0
    global_daily_token_budget: Annotated[
        int,
        Meta(
            ge=0,
            description="Tokens of all owners together per day (UTC); 0: no limit."
            " Not available on a Redis Cluster.",
        ),
    ] = 0
    allowed_models: Annotated[
        str,
        Meta(
            description="Models that clients may name besides GPT_MODEL, comma-separated;"
            " empty: any."
        ),
    ] = ""
    allowed_parameters: Annotated[
        str,
        Meta(
            description="Parameters that change the price and that clients may use all the same,"
            " comma-separated, e.g. service_tier,prediction,tools.web_search."
        ),
    ] = ""
    max_output_tokens: Annotated[
        int,
        Meta(ge=0, description="Cap on the tokens of one answer, whatever is asked; 0: no limit."),
    ] = 0
    prices: Annotated[
        str,
        Meta(
            description="Dollars per million tokens, input/output, e.g. gpt-x=0.25/2.00,gpt-y=1/4."
        ),
    ] = ""
    encryption_key: Annotated[
        str,
        Meta(
            description="Encrypts contents in Redis: 32 bytes as 64 hex digits (openssl rand -hex"
            " 32). To change the key, put the new one in front: new,old.",
            extra=_SECRET,
        ),
    ] = ""
    google_cloud_project: Annotated[
        str, Meta(description="Links log entries to Cloud Trace; set by deploy.sh.")
    ] = ""
    cors_origins: Annotated[
        str,
        Meta(description="Origins of web apps, comma-separated, or *; empty: no CORS headers."),
    ] = ""
    k_service: Annotated[
        str, Meta(description="Set by Cloud Run; turns off the defaults meant for a local machine.")
    ] = ""
    threads: Annotated[
        int,
        Meta(
            ge=1,
            description="Requests that one instance serves at once; agents, and answers that go on,"
            " do not count.",
        ),
    ] = 256

    @property
    def auth_ways(self) -> frozenset[str]:
        """The ways to prove who one is that AUTH lists."""
        return _words(self.auth)

    @property
    def origins(self) -> frozenset[str]:
        """Origins whose web apps may call the API; "*" stands for all."""
        return _words(self.cors_origins)

    @property
    def parameters(self) -> frozenset[str]:
        """Parameters that clients may use although they change the price."""
        return _words(self.allowed_parameters)

    @property
    def limits(self) -> Limits:
        """Limits of an owner who has none of its own."""
        return Limits(self.rate_limit, self.daily_token_budget, self.max_concurrent_turns)

    @property
    def key_of_agents(self) -> str:
        """The key that agents connect with; "" without one."""
        return self.agent_key or self.admin_key

    @property
    def lets_agents_in(self) -> bool:
        """With a key; without one, only on a local server that is open to anybody."""
        return bool(self.key_of_agents) or (self.auth_ways == {"open"} and not self.k_service)

    @property
    def has_upstream(self) -> bool:
        """Whether there is a model API, or agents alone."""
        return bool(self.gpt_api_key) or self.openai_base_url != _OPENAI_URL

    @property
    def models(self) -> list[str]:
        """The models that clients see: the default one, and those they may name besides."""
        if not self.has_upstream:
            return [AGENT]
        agents = {AGENT} if self.lets_agents_in and self.may_name(AGENT) else set()
        others = (_words(self.allowed_models) | agents) - {self.gpt_model}
        return [self.gpt_model, *sorted(others)]

    def may_name(self, model: str) -> bool:
        """Whether a client may ask for this model."""
        if not self.has_upstream:
            return model == AGENT
        allowed = _words(self.allowed_models)
        return not allowed or model in allowed or model == self.gpt_model

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in all_fields() if not f.secret]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({shown})"


class Field(msgspec.Struct, frozen=True):
    """One setting: `variable` is its environment variable, `type` what msgspec converts to."""

    name: str
    variable: str
    alias: str
    type: Any
    default: Any
    help: str
    secret: bool


def all_fields() -> list[Field]:
    """Every setting, in the order of the table."""
    return [_describe(info) for info in msgspec.structs.fields(Settings)]


def _describe(info: msgspec.structs.FieldInfo) -> Field:
    meta: Meta = info.type.__metadata__[0]
    extra = meta.extra or {}
    return Field(
        info.name,
        info.name.upper(),
        extra.get("alias", ""),
        info.type,
        info.default,
        meta.description or "",
        extra.get("secret", False),
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())
