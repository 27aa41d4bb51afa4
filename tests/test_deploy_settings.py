"""What deploy.sh finds out about .env before it does anything: faults, secrets, region, Redis."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from dotenv import dotenv_values

from chat.settings import Settings
from dev.deploy_settings import Unusable, check, ping, region_near, write_plan
from dev.redis_server import RedisServer
from tests.harness import free_port

GOOD = {
    "GPT_API_KEY": "sk-x",
    "REDIS_HOST": "quick-fox.upstash.io",
    "REDIS_PASSWORD": "p",
    "ADMIN_KEY": "0123456789abcdef",
}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"ADMIN_KEY": "short"}, "ADMIN_KEY: must have 16 characters or more"),
        ({"ADMIN_KEY": ""}, "ADMIN_KEY: is missing"),
        ({"REDIS_HOST": "localhost"}, "REDIS_HOST: localhost is this machine"),
        ({"REDIS_HOST": "127.0.0.1"}, "REDIS_HOST: 127.0.0.1 is this machine"),
        ({"REDIS_URL": "redis://redis:6379"}, "REDIS_URL: redis is this machine"),
        ({"REDIS_URL": "unix:///tmp/redis.sock"}, "REDIS_URL: a socket is this machine"),
        ({"OPENAI_BASE_URL": "http://[::1]:11434/v1"}, "OPENAI_BASE_URL: ::1 is this machine"),
        ({"OPENAI_BASE_URL": "http://host.docker.internal/v1"}, "is this machine"),
        ({"RATE_LIMITS": "3/minute"}, "RATE_LIMITS: is no setting; is it RATE_LIMIT?"),
        ({"OPENAI_API_KEYS": "x"}, "is it OPENAI_API_KEY?"),
        ({"REDIS_PORT": "many"}, "REDIS_PORT: must be a whole number"),
    ],
)
def test_what_would_not_work_in_the_cloud_is_refused(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(Unusable) as refused:
        check(GOOD | wrong)
    assert said in str(refused.value)


def test_all_faults_are_told_at_once_and_no_value_of_a_secret() -> None:
    with pytest.raises(Unusable) as refused:
        check(GOOD | {"REDIS_HOST": "", "ADMIN_KEY": "hush", "RATE_LIMITZ": "1", "THREADS": "x"})
    said = str(refused.value)
    assert all(name in said for name in ("REDIS_HOST", "RATE_LIMITZ", "THREADS"))
    assert "hush" not in said


@pytest.mark.parametrize("name", ["PORT", "HOST", "DATA_DIR", "OTEL_SERVICE_NAME", "K_SERVICE"])
def test_what_belongs_to_a_laptop_or_a_library_is_no_fault(name: str) -> None:
    check(GOOD | {name: "8080"})


@pytest.mark.parametrize(
    "host, region",
    [
        ("eu1-quick-fox-12345.upstash.io", "europe-west1"),
        ("us1-quick-fox-12345.upstash.io", "us-east4"),
        ("gusc1-quick-fox.upstash.io", "us-central1"),
        ("quick-fox-12345.upstash.io", ""),
        ("redis-1.c1.us-east-1-2.ec2.cloud.redislabs.com", "us-east4"),
        ("redis-1.c1.asia-northeast1-1.gce.cloud.redislabs.com", "asia-northeast1"),
        ("my.eu-central-1.cache.amazonaws.com", "europe-west3"),
        ("redis.example.com", ""),
    ],
)
def test_the_region_is_told_by_the_name_of_the_host(host: str, region: str) -> None:
    assert region_near(host) == region


def test_redis_is_asked_with_the_password_that_the_function_will_use(tmp_path: Path) -> None:
    port = free_port()
    redis = RedisServer(tmp_path, port=port).start()
    try:
        redis.client().config_set("requirepass", "right")
        # `check` would refuse this machine, so what it gives is changed afterwards.
        there = {"REDIS_URL": "redis://:right@redis.example.com"}
        settings = check(GOOD | there)
        for password, answer in (("right", ""), ("wrong", "WRONGPASS"), ("", "NOAUTH")):
            url = (
                f"redis://:{password}@127.0.0.1:{port}" if password else f"redis://127.0.0.1:{port}"
            )
            found = ping(_with_url(settings, url))
            assert found.startswith(answer) and bool(found) == bool(answer)
    finally:
        redis.stop()
    assert "refused" in ping(_with_url(settings, f"redis://127.0.0.1:{port}"))


def _with_url(settings: Settings, url: str) -> Settings:
    return msgspec.structs.replace(settings, redis_url=url)


def test_secrets_settings_and_what_is_taken_away_are_kept_apart(tmp_path: Path) -> None:
    given = GOOD | {"OPENAI_API_KEY": "sk-alias", "GPT_API_KEY": "", "RATE_LIMIT": "", "PORT": "1"}
    given["OTEL_SERVICE_NAME"] = "chat"
    write_plan(given, check(given), tmp_path)
    secrets = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert secrets == {
        "GPT_API_KEY": "sk-alias",
        "ADMIN_KEY": GOOD["ADMIN_KEY"],
        "REDIS_PASSWORD": "p",
    }
    plain = json.loads((tmp_path / "plain.json").read_text())
    assert plain == {"REDIS_HOST": GOOD["REDIS_HOST"], "OTEL_SERVICE_NAME": "chat"}
    assert (tmp_path / "unset").read_text() == "RATE_LIMIT"
    assert (tmp_path / "facts").read_text().startswith("auth=keys\n")


def test_bare_values_are_the_same_to_deploy_and_to_the_shell(tmp_path: Path) -> None:
    """`export $(cat .env | xargs)` is how the source document loads the same file."""
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in GOOD.items()))
    script = f"export $(cat {tmp_path}/.env | xargs); env -0"
    done = subprocess.run(
        ["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True
    )
    exported = dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)
    assert dotenv_values(tmp_path / ".env") == {name: exported[name] for name in GOOD}
