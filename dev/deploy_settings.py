"""Used by deploy.sh: check .env as the function will, sort out secrets, find Redis and its region.

Runs on the Python that gcloud brings, so: the standard library, python-dotenv and `chat.settings`.
"""

import ipaddress
import json
import re
import socket
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values

from chat.settings import BadSettings, Settings, all_fields, parse_settings

# They belong to a laptop, or to whatever runs the function there; Cloud Run sets its own.
_NOT_FOR_THE_CLOUD = {"PORT", "HOST", "DATA_DIR", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"}
_OF_LIBRARIES = re.compile(r"OTEL_\w+|GUNICORN_LOG_LEVEL|TZ|PYTHON\w+")
# Where a Redis stands, as its host name says it, and the region of Cloud Run next to it.
_UPSTASH = {
    "us1": "us-east4",
    "usw1": "us-west2",
    "usw2": "us-west1",
    "eu1": "europe-west1",
    "eu2": "europe-west3",
    "apn1": "asia-northeast1",
    "aps1": "asia-southeast1",
    "aps2": "australia-southeast1",
    "sae1": "southamerica-east1",
    "gusc1": "us-central1",
}
_AWS = {
    "us-east-1": "us-east4",
    "us-east-2": "us-east5",
    "us-west-1": "us-west2",
    "us-west-2": "us-west1",
    "ca-central-1": "northamerica-northeast1",
    "sa-east-1": "southamerica-east1",
    "eu-west-1": "europe-west1",
    "eu-west-2": "europe-west2",
    "eu-west-3": "europe-west9",
    "eu-central-1": "europe-west3",
    "eu-north-1": "europe-north1",
    "ap-south-1": "asia-south1",
    "ap-northeast-1": "asia-northeast1",
    "ap-northeast-2": "asia-northeast3",
    "ap-southeast-1": "asia-southeast1",
    "ap-southeast-2": "australia-southeast1",
}
_GOOGLE = re.compile(
    r"(?:us|europe|asia|australia|northamerica|southamerica|me|africa)-(?:north|south|east|west|central)"
    r"(?:east|west)?\d{1,2}(?!\d)"
)


class Unusable(Exception):
    """What keeps these settings from being deployed, one a line."""


def check(given: Mapping[str, str | None]) -> Settings:
    """The settings as the function will read them; raises Unusable with all that is wrong."""
    values = {name: value for name, value in given.items() if value}
    values = {name: value for name, value in values.items() if name not in _NOT_FOR_THE_CLOUD}
    try:
        settings = parse_settings(values | {"K_SERVICE": "set on Cloud Run"}, names=given)
    except BadSettings as found:
        raise Unusable("\n".join(str(found).splitlines()[1:])) from None
    problems: list[str] = []
    for name, host in (
        ("REDIS_URL" if settings.redis_url else "REDIS_HOST", redis_at(settings)[0]),
    ):
        if _is_only_here(host):
            problems.append(
                f"  {name}: {host or 'a socket'} is this machine; Cloud Run cannot see it"
            )
    model = urlsplit(settings.openai_base_url).hostname or ""
    if _is_only_here(model):
        problems.append(f"  OPENAI_BASE_URL: {model} is this machine; Cloud Run cannot see it")
    if problems:
        raise Unusable("\n".join(problems))
    return settings


def variables_of_settings() -> dict[str, tuple[str, ...]]:
    """Of each setting, by its variable: that name, and another it may have."""
    fields = {field.variable: field.alias for field in all_fields()}
    return {name: (name, alias) if alias else (name,) for name, alias in fields.items()}


def secret_settings() -> set[str]:
    """The variables whose values go to Secret Manager."""
    return {field.variable for field in all_fields() if field.secret}


def redis_at(settings: Settings) -> tuple[str, int, str, str, bool]:
    """Host ("" for a unix socket), port, user, password, and whether it is TLS."""
    if not settings.redis_url:
        host = settings.redis_host
        tls = settings.redis_tls or host.endswith(".upstash.io")
        return host, settings.redis_port, "", settings.redis_password, tls
    url = urlsplit(settings.redis_url)
    host = "" if url.scheme == "unix" else url.hostname or ""
    names = unquote(url.username or ""), unquote(url.password or "")
    tls = url.scheme == "rediss" or host.endswith(".upstash.io")
    return host, url.port or 6379, *names, tls


def _is_only_here(host: str) -> bool:
    """A name without a dot, like the `redis` of docker compose, is known on one machine only."""
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".docker.internal"))


def region_near(host: str) -> str:
    """The region of Cloud Run that is nearest to a Redis host, or "" where its name does not say."""
    if (found := re.match(r"(\w+)-.*\.upstash\.io$", host)) and found[1] in _UPSTASH:
        return _UPSTASH[found[1]]
    if found := _GOOGLE.search(host):
        return found[0]
    return next((ours for theirs, ours in _AWS.items() if theirs in host), "")


def ping(settings: Settings) -> str:
    """ "" when Redis answers a PING with these settings, or says that it is not seen from here."""
    host, port, user, password, tls = redis_at(settings)
    try:
        if ipaddress.ip_address(host).is_private and not _is_only_here(host):
            return ""  # inside a VPC
    except ValueError:
        pass
    try:
        with socket.create_connection((host, port), timeout=10) as plain:
            line = (
                ssl.create_default_context().wrap_socket(plain, server_hostname=host)
                if tls
                else plain
            )
            names = [name for name in (user, password) if name]
            refused = _ask(line, "AUTH", *names) if password else ""
            return refused or _ask(line, "PING")
    except OSError as problem:
        return str(problem) or type(problem).__name__


def _ask(line: socket.socket, *words: str) -> str:
    """Send one command; "" when it went well, else the error that Redis named."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in map(str.encode, words):
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    line.sendall(b"".join(parts))
    answer = b""
    while not answer.endswith(b"\n"):
        piece = line.recv(4096)
        if not piece:
            return "the connection was closed (is TLS missing: REDIS_TLS=true?)"
        answer += piece
    return "" if answer.startswith(b"+") else answer.decode(errors="replace").strip(" -\r\n")


def write_plan(given: Mapping[str, str | None], settings: Settings, folder: Path) -> None:
    """`secrets/NAME` with each secret, `plain.json`, `unset`, and `facts` for the shell."""
    (folder / "secrets").mkdir(exist_ok=True)
    plain, secrets, unset = {}, secret_settings(), []
    for name, variables in variables_of_settings().items():
        value = next((given[v] for v in variables if given.get(v)), None)
        if value and name in secrets:
            (folder / "secrets" / name).write_text(value)
        elif value and name not in _NOT_FOR_THE_CLOUD:
            plain[name] = value
        elif any(variable in given for variable in variables):
            unset.append(name)
    plain |= {
        name: value for name, value in given.items() if value and _OF_LIBRARIES.fullmatch(name)
    }
    (folder / "plain.json").write_text(json.dumps(plain))
    (folder / "unset").write_text("\n".join(unset))
    host = redis_at(settings)[0]
    ways = ",".join(sorted(settings.auth_ways))
    facts = f"auth={ways}\nredis_region={region_near(host)}\nredis_host={host}\n"
    (folder / "facts").write_text(facts)


def main(command: str, folder: Path) -> None:
    """`check FOLDER` or `ping FOLDER`; ends with 1 and what is wrong. `none`: this can be imported."""
    if command == "none":
        return
    given = dotenv_values(".env")
    try:
        settings = check(given)
    except Unusable as problems:
        sys.exit(f"These settings of .env would not work:\n{problems}")
    if command == "ping":
        if problem := ping(settings):
            sys.exit(f"Redis at {redis_at(settings)[0]}: {problem}")
    else:
        write_plan(given, settings, folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
