"""Settings from the environment. Whatever is wrong with them is said all at once."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from chat.core.limits import read_prices, read_rates
from chat.settings.fields import AGENT, Field, Settings, all_fields
from chat.settings.upstream import (
    is_url,
    read_fallback_keys,
    read_fallbacks,
    read_headers,
    wrong_upstream,
)

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_ENCRYPTION_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SWITCH = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # msgspec knows the rest
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


class BadSettings(Exception):
    """Names every variable that is missing or wrong, one per line."""


def read_environment(folder: Path) -> dict[str, str]:
    """The environment, and what `<folder>/.env` has besides."""
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
    for field in all_fields():
        text = environment.get(field.variable) or environment.get(field.alias) or ""
        if text.strip():
            try:
                values[field.name] = _convert(field, text.strip())
            except ValueError as problem:
                problems.append(f"{field.variable}: {problem}")
    values.setdefault("auth", "keys" if "k_service" in values else "open")
    settings = Settings(**values)
    problems += _missing(settings, given=set(values)) + _wrong(settings)
    if problems:
        raise BadSettings("Chatkeep cannot start:\n" + "\n".join(f"  {p}" for p in problems))
    return settings


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
    if not settings.auth_ways or settings.auth_ways - {"open", "keys", "jwt"}:
        problems.append("AUTH: must be a list of open, keys and jwt")
    if settings.redis_url and not settings.redis_url.startswith(_REDIS_SCHEMES):
        problems.append("REDIS_URL: must begin with redis://, rediss:// or unix://")
    for name in ("openai_base_url", "jwt_jwks_url", "app_check_jwks_url"):
        if getattr(settings, name) and not is_url(getattr(settings, name)):
            problems.append(f"{name.upper()}: must be an http:// or https:// URL")
    if settings.global_daily_token_budget and settings.redis_cluster:
        problems.append("GLOBAL_DAILY_TOKEN_BUDGET: cannot be kept on a Redis Cluster")
    return problems + wrong_upstream(settings) + _unreadable(settings)


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
