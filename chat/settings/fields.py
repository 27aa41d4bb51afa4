"""The table of settings: name, type, bounds, default and help of each."""

from typing import Annotated, Literal

from msgspec import Meta

from chat.settings.model_fields import SECRET, ModelFields

_MIB = 1024 * 1024


class Fields(ModelFields, frozen=True, kw_only=True):
    """Every setting. Durations are in seconds, sizes in bytes; an empty text means "not set"."""

    redis_host: Annotated[str, Meta(description="Redis host, e.g. <name>.upstash.io.")] = ""
    redis_port: Annotated[int, Meta(ge=1, le=65535, description="Redis port.")] = 6379
    redis_password: Annotated[str, Meta(description="Redis password.", extra=SECRET)] = ""
    redis_tls: Annotated[
        bool, Meta(description="Use TLS to Redis; always on for *.upstash.io.")
    ] = False
    redis_url: Annotated[
        str,
        Meta(
            description="redis://, rediss:// or unix:// URL; replaces the four settings above.",
            extra=SECRET,
        ),
    ] = ""
    redis_cluster: Annotated[
        bool, Meta(description="Redis is a cluster; the address is that of any of its nodes.")
    ] = False
    redis_key_prefix: Annotated[
        str,
        Meta(
            description="In front of every key, e.g. `prod:`, for several deployments on one Redis."
        ),
    ] = ""
    chat_ttl_seconds: Annotated[
        float, Meta(ge=0, description="Chats expire this long after their last turn; 0: never.")
    ] = 0.0
    max_body_bytes: Annotated[int, Meta(ge=1, description="Largest request body, in bytes.")] = (
        1024 * 1024
    )
    client_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            description="How long a client may neither send the rest of its request nor read its answer.",
        ),
    ] = 10.0
    max_prompt_tokens: Annotated[
        int,
        Meta(ge=1, description="Largest prompt, in estimated tokens; older turns are left out."),
    ] = 100_000
    max_prompt_bytes: Annotated[
        int, Meta(ge=1, description="Largest prompt, in bytes; older turns are left out.")
    ] = 4 * _MIB
    max_answer_bytes: Annotated[
        int,
        Meta(ge=1, description="Largest answer, in bytes; there it ends, by reason of `length`."),
    ] = _MIB
    max_page_bytes: Annotated[
        int,
        Meta(ge=1, description="Largest page of a history, in bytes; Link leads to the next."),
    ] = 4 * _MIB
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
    max_waiting_per_owner: Annotated[
        int, Meta(ge=1, description="Messages of an owner that may wait for running turns.")
    ] = 32
    max_readers_per_owner: Annotated[
        int, Meta(ge=1, description="Streams that an owner may resume at once, per instance.")
    ] = 1000
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
            description="Who may use the chats: `local` (programs and pages of this machine),"
            " `open` (anybody), `keys` (user keys made by the admin API), `jwt` (ID tokens of a"
            " sign-in service), or a comma-separated list. Default: `keys` on Cloud Run and with"
            " ADMIN_KEY, else `local`."
        ),
    ] = ""
    admin_key: Annotated[
        str,
        Meta(
            description="Key of /admin; random, at least 16 characters (openssl rand -hex 32)."
            " Required with AUTH=keys.",
            extra=SECRET,
        ),
    ] = ""
    agent_key: Annotated[
        str,
        Meta(
            description="Key that agents connect with (/client/register). Default: ADMIN_KEY;"
            " without either, with AUTH=local or open, agents of the same machine may connect.",
            extra=SECRET,
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
    max_chats_per_owner: Annotated[
        int, Meta(ge=0, description="Chats that an owner may have; 0: no limit.")
    ] = 0
    max_stored_bytes_per_owner: Annotated[
        int,
        Meta(ge=0, description="Bytes that an owner may store, from now on counted; 0: no limit."),
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
            extra=SECRET,
        ),
    ] = ""
    google_cloud_project: Annotated[
        str, Meta(description="Links log entries to Cloud Trace; set by deploy.sh.")
    ] = ""
    otel_exporter_otlp_endpoint: Annotated[
        str,
        Meta(
            description="OpenTelemetry collector (OTLP over HTTP), e.g. http://localhost:4318;"
            " empty: no traces and metrics."
        ),
    ] = ""
    otel_exporter_otlp_headers: Annotated[
        str,
        Meta(description="Headers for the collector: name=value,name=value.", extra=SECRET),
    ] = ""
    cors_origins: Annotated[
        str,
        Meta(
            description="Origins of web apps, e.g. https://app.example, comma-separated, or *;"
            " empty: no CORS headers."
        ),
    ] = ""
    k_service: Annotated[
        str, Meta(description="Set by Cloud Run; turns off the defaults meant for a local machine.")
    ] = ""
    k_revision: Annotated[
        str, Meta(description="Set by Cloud Run; stands in each line of the log.")
    ] = ""
    threads: Annotated[
        int,
        Meta(
            ge=1,
            description="Requests that one instance serves at once; agents, and answers that go on,"
            " do not count.",
        ),
    ] = 256
