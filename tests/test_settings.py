"""Settings: one table, every mistake named at once, and nothing secret shown."""

import subprocess
import sys
from pathlib import Path

import pytest

from chat.models.upstream.address import read_address
from chat.settings import BadSettings, all_fields, parse_settings, read_environment
from tests.harness import ROOT, clean_environment

ENOUGH = {"GPT_API_KEY": "k", "REDIS_HOST": "h"}


def test_defaults_are_enough_with_a_key_and_a_redis() -> None:
    settings = parse_settings(ENOUGH)
    assert settings.gpt_model == "gpt-5.4-mini"
    assert settings.max_body_bytes == 1024 * 1024
    assert settings.threads == 256


def test_openai_api_key_is_an_alias_and_the_own_name_wins() -> None:
    alias = {"OPENAI_API_KEY": "a", "REDIS_HOST": "h"}
    assert parse_settings(alias).gpt_api_key == "a"
    assert parse_settings(alias | {"GPT_API_KEY": "b"}).gpt_api_key == "b"


def test_a_server_of_ones_own_needs_no_key() -> None:
    assert parse_settings({"REDIS_HOST": "h", "OPENAI_BASE_URL": "http://localhost:11434/v1"})


def test_everything_that_is_wrong_is_said_at_once() -> None:
    bad = {
        "REDIS_PORT": "seven",
        "REDIS_TLS": "maybe",
        "MAX_BODY_BYTES": "0",
        "KEEPALIVE_SECONDS": "nan",
        "QUEUE_SECONDS": "inf",
        "OPENAI_BASE_URL": "ftp://x",
        "AUTH": "keys,magic",
        "APP_CHECK": "perhaps",
        "RATE_LIMIT": "60 a minute",
        "DAILY_TOKEN_BUDGET": "-1",
        "JWT_JWKS_URL": "keys",
        "PRICES": "gpt",
        "ENCRYPTION_KEY": "ab" * 31,
    }
    with pytest.raises(BadSettings) as caught:
        parse_settings(bad)
    text = str(caught.value)
    for name in [*bad, "REDIS_HOST"]:
        assert f"  {name}: " in text, name


@pytest.mark.parametrize(
    "name, text, wanted",
    [
        ("REDIS_PORT", "70000", "a whole number, at least 1, at most 65535"),
        ("QUEUE_SECONDS", "-1", "a number, at least 0"),
        ("LOG_SECONDS", "inf", "a number, at least 1"),
        ("REDIS_TLS", "2", "true or false"),
        ("TITLES", "some", "one of first-words, model, off"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_wanted(name: str, text: str, wanted: str) -> None:
    with pytest.raises(BadSettings, match=f"  {name}: must be {wanted}$"):
        parse_settings(ENOUGH | {name: text})


@pytest.mark.parametrize(
    "given, missing",
    [
        ({"AUTH": "keys"}, "ADMIN_KEY"),
        ({"K_SERVICE": "chat"}, "ADMIN_KEY"),
        ({"AUTH": "jwt"}, "FIREBASE_PROJECT"),
        ({"AUTH": "jwt", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a"}, "FIREBASE_PROJECT"),
        ({"APP_CHECK": "required"}, "FIREBASE_PROJECT"),
        (
            {"GLOBAL_DAILY_TOKEN_BUDGET": "9", "REDIS_CLUSTER": "yes"},
            "GLOBAL_DAILY_TOKEN_BUDGET",
        ),
    ],
)
def test_what_access_and_limits_need_is_named(given: dict[str, str], missing: str) -> None:
    with pytest.raises(BadSettings, match=f"  {missing}: "):
        parse_settings(ENOUGH | given)


def test_nobody_else_gets_in_without_a_key_unless_it_is_said() -> None:
    assert parse_settings(ENOUGH).auth == "local"
    assert parse_settings(ENOUGH | {"ADMIN_KEY": "k" * 16}).auth == "keys"
    on_cloud_run = ENOUGH | {"K_SERVICE": "chat"}
    assert parse_settings(on_cloud_run | {"ADMIN_KEY": "k" * 16}).auth == "keys"
    assert parse_settings(on_cloud_run | {"AUTH": "open"}).auth == "open"


@pytest.mark.parametrize("url", ["http://", "http://h:0", "http://h:99999", "http://[::1", "x"])
def test_a_base_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(BadSettings, match="OPENAI_BASE_URL"):
        parse_settings(ENOUGH | {"OPENAI_BASE_URL": url})


@pytest.mark.parametrize("text", ["true", "1", "YES", "On"])
def test_a_switch_can_be_said_in_several_ways(text: str) -> None:
    assert parse_settings(ENOUGH | {"REDIS_TLS": text}).redis_tls is True


def test_secrets_are_not_shown() -> None:
    secrets = [field.name for field in all_fields() if field.secret]
    assert secrets == [
        "gpt_api_key",
        "upstream_headers",
        "fallback_keys",
        "https_proxy",
        "redis_password",
        "redis_url",
        "admin_key",
        "agent_key",
        "encryption_key",
        "otel_exporter_otlp_headers",
    ]
    values = {name.upper(): "redis://hidden-word" for name in secrets} | {
        "ENCRYPTION_KEY": "ab" * 32,
        "UPSTREAM_HEADERS": '{"x-key": "hidden"}',
        "FALLBACK_MODELS": "x=https://b.example/v1",
        "FALLBACK_KEYS": "b.example=hidden",
        "HTTPS_PROXY": "http://user:hidden@proxy",
    }
    settings = parse_settings(values)
    shown = f"{settings!r} {settings.__rich_repr__()}"
    assert "gpt_model" in shown
    assert "hidden" not in shown and "abab" not in shown
    with pytest.raises(BadSettings) as caught:
        parse_settings({"REDIS_PORT": "hidden", "REDIS_URL": "hidden", "ENCRYPTION_KEY": "hidden"})
    assert "hidden" not in str(caught.value)


WRONG = {
    "UPSTREAM_HEADERS": [
        "x: y",
        '["x"]',
        '{"x": 1}',
        '{"a b": "c"}',
        '{"x": "zero\u200bwidth"}',
        '{"x": " "}',
        '{"Host": "other"}',
        '{"x": "a\\r\\nb"}',
    ],
    "FALLBACK_MODELS": ["=http://x/v1", "m=http://"],
    "FALLBACK_KEYS": ["key", "b.example=", "not.there=key"],
    "HTTPS_PROXY": ["socks5://x", "proxy:3128"],
    "GPT_API_KEY": ["k\u200b", "a b", "“k”"],
    "OPENAI_BASE_URL": [
        "http://" + "a" * 64 + "/v1",
        "http://a..b/v1",
        "http://\u2603.-\u200b\u00ad.x/",
    ],
}


@pytest.mark.parametrize("name, text", [(n, t) for n, texts in WRONG.items() for t in texts])
def test_what_the_model_api_could_not_be_sent_is_refused_at_the_start(name: str, text: str) -> None:
    fallbacks = {"FALLBACK_MODELS": "m2, m3=https://b.example/v1"}
    assert parse_settings(ENOUGH | fallbacks | {"FALLBACK_KEYS": "B.example=k"})
    with pytest.raises(BadSettings, match=f"  {name}: ") as caught:
        parse_settings(ENOUGH | fallbacks | {name: text})
    assert str(caught.value).count("\n") == 1


def test_a_host_of_other_letters_is_asked_by_its_name_in_ascii() -> None:
    assert parse_settings(ENOUGH | {"OPENAI_BASE_URL": "https://bücher.example/v1"})
    assert read_address("https://bücher.example/v1").authority == "xn--bcher-kva.example"


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text('GPT_MODEL="from file"\nSYSTEM_PROMPT=from file # a comment\n')
    monkeypatch.setenv("GPT_MODEL", "from environment")
    read = read_environment(tmp_path)
    assert (read["GPT_MODEL"], read["SYSTEM_PROMPT"]) == ("from environment", "from file")


def test_a_function_with_bad_settings_does_not_start_and_says_why() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "functions_framework", "--target=main", "--port=1"],
        cwd=ROOT,
        env=clean_environment() | {"REDIS_PORT": "x"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for name in ("GPT_API_KEY", "REDIS_HOST", "REDIS_PORT"):
        assert f"  {name}: " in ended.stderr
