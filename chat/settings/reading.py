"""Settings from the environment. Whatever is wrong with them is said all at once."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from chat.core.limits import read_prices, read_rates
from chat.settings.settings import AGENT, Field, Settings, all_fields
from chat.settings.upstream import (
    is_url,
    read_fallback_keys,
    read_fallbacks,
    read_headers,
    wrong_upstream,
)

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_MIN_ADMIN_KEY = 16
# What a header can carry (RFC 9110, section 5.5), without the blanks that would be stripped.
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
# As browsers write it (RFC 6454, section 6.2): lower case, no path, no port that is the default.
_ORIGIN = re.compile(r"(?!ftp|wss?:|file)[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")
# What may stand in .env besides: of `make run`, the server, Cloud Run and libraries.
_NOT_OURS = re.compile(
    r"DATA_DIR|HOST|PORT|K_REVISION|K_CONFIGURATION|GUNICORN_LOG_LEVEL|OTEL_\w+|PYTHON\w+|TZ"
)
_ENCRYPTION_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SWITCH = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # msgspec knows the rest
_URLS = ("openai_base_url", "jwt_jwks_url", "app_check_jwks_url", "otel_exporter_otlp_endpoint")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


class BadSettings(Exception):
    """Names every variable that is missing or wrong, one per line."""


def load_settings(folder: Path) -> Settings:
    """The settings of the environment and of `<folder>/.env`; raises BadSettings."""
    from_file = _read_file(folder)
    return parse_settings(from_file | dict(os.environ), names=from_file)


def read_environment(folder: Path) -> dict[str, str]:
    """The environment, and what `<folder>/.env` has besides."""
    return _read_file(folder) | dict(os.environ)


def _read_file(folder: Path) -> dict[str, str]:
    file = folder / ".env"
    if not file.exists():  # as in the cloud, where every import makes a cold start longer
        return {}
    from dotenv import dotenv_values

    return {name: value or "" for name, value in dotenv_values(file).items()}


def parse_settings(environment: Mapping[str, str], names: Iterable[str] = ()) -> Settings:
    """Read every setting; raises BadSettings with all that is wrong.

    `names` stand where nothing but settings should: one that is none is wrong.
    """
    values: dict[str, Any] = {}
    problems = _unknown(names)
    for field in all_fields():
        text = environment.get(field.variable) or environment.get(field.alias) or ""
        if text.strip():
            try:
                values[field.name] = _convert(field, text.strip())
            except ValueError as problem:
                problems.append(f"{field.variable}: {problem}")
    values.setdefault("auth", "keys" if {"k_service", "admin_key"} & set(values) else "local")
    settings = Settings(**values)
    problems += _missing(settings, given=set(values)) + _wrong(settings)
    if problems:
        raise BadSettings("Chatkeep cannot start:\n" + "\n".join(f"  {p}" for p in problems))
    return settings


def _unknown(names: Iterable[str]) -> list[str]:
    known = {name for field in all_fields() for name in (field.variable, field.alias) if name}
    unknown = sorted(name for name in set(names) - known if not _NOT_OURS.fullmatch(name))
    if not unknown:
        return []
    from difflib import get_close_matches

    nearest = {name: get_close_matches(name, sorted(known), n=1) for name in unknown}
    return [
        f"{name}: is no setting" + (f"; is it {near[0]}?" if near else "")
        for name, near in nearest.items()
    ]


def _convert(field: Field, text: str) -> Any:
    if isinstance(field.default, bool):
        text = _SWITCH.get(text.lower(), text)
    try:
        value = msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError:
        # Not msgspec's own message: the text may be a secret that was put into the wrong line.
        raise ValueError(f"must be {_describe(field)}") from None
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"must be {_describe(field)}")
    return value


def _describe(field: Field) -> str:
    kind, meta = field.type.__origin__, field.type.__metadata__[0]
    if get_origin(kind):  # a Literal
        return f"one of {', '.join(get_args(kind))}"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", meta.ge), ("at most", meta.le))
        if bound is not None
    ]
    return ", ".join([_KINDS[kind], *bounds])


def _missing(settings: Settings, given: set[str]) -> list[str]:
    problems = []
    if not {"gpt_api_key", "openai_base_url"} & given and settings.gpt_model != AGENT:
        problems.append("GPT_API_KEY: is missing")
    if not {"redis_host", "redis_url"} & given:
        problems.append("REDIS_HOST: is missing (or give REDIS_URL)")
    ways = settings.auth_ways
    if "keys" in ways and not settings.admin_key:
        problems.append("ADMIN_KEY: is missing (AUTH=keys needs it; AUTH=open lets anybody in)")
    if not settings.firebase_project:
        jwt_parts = (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url)
        if "jwt" in ways and not all(jwt_parts):
            problems.append(
                "FIREBASE_PROJECT: is missing (or JWT_ISSUER, JWT_AUDIENCE and JWT_JWKS_URL)"
            )
        if settings.app_check != "off":
            problems.append("FIREBASE_PROJECT: is missing (APP_CHECK needs it)")
    return problems


def _wrong(settings: Settings) -> list[str]:
    problems = []
    if not settings.auth_ways or settings.auth_ways - {"local", "open", "keys", "jwt"}:
        problems.append("AUTH: must be a list of local, open, keys and jwt")
    if settings.redis_url and not settings.redis_url.startswith(_REDIS_SCHEMES):
        problems.append("REDIS_URL: must begin with redis://, rediss:// or unix://")
    for name in _URLS:
        if getattr(settings, name) and not is_url(getattr(settings, name)):
            problems.append(f"{name.upper()}: must be an http:// or https:// URL")
    if settings.global_daily_token_budget and settings.redis_cluster:
        problems.append("GLOBAL_DAILY_TOKEN_BUDGET: cannot be kept on a Redis Cluster")
    if {"{", "}"} & set(settings.redis_key_prefix):  # they would move keys to another node
        problems.append("REDIS_KEY_PREFIX: must not have braces")
    return (
        problems
        + _wrong_keys(settings)
        + _wrong_origins(settings)
        + wrong_upstream(settings)
        + _unreadable(settings)
    )


def _wrong_keys(settings: Settings) -> list[str]:
    problems = []
    if settings.admin_key and len(settings.admin_key) < _MIN_ADMIN_KEY:
        problems.append(
            f"ADMIN_KEY: must have {_MIN_ADMIN_KEY} characters or more; try: openssl rand -hex 24"
        )
    for name in ("gpt_api_key", "admin_key", "agent_key"):
        if (key := getattr(settings, name)) and not _HEADER_VALUE.fullmatch(key):
            problems.append(
                f"{name.upper()}: has characters that no header can carry"
                " (a blank, a typographic quote, an invisible one?)"
            )
    return problems


def _wrong_origins(settings: Settings) -> list[str]:
    return [
        f"CORS_ORIGINS: {origin} never matches; an origin is like https://app.example,"
        " in lower case, without a path, a slash at the end, or the usual port"
        for origin in sorted(settings.origins - {"*"})
        if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)
    ]


def _unreadable(settings: Settings) -> list[str]:
    readers: dict[str, Callable[[str], object]] = {
        "rate_limit": read_rates,
        "prices": read_prices,
        "encryption_key": read_encryption_keys,
        "upstream_headers": read_headers,
        "fallback_models": read_fallbacks,
        "fallback_keys": read_fallback_keys,
    }
    problems = []
    for name, read in readers.items():
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
