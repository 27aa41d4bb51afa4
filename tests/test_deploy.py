"""deploy.sh, with a gcloud in the real one's place that writes down what it was told."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, clean_environment

GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$RECORD/commands"
for word in "$@"; do
  case "$word" in
    --data-file=*) cat "${word#*=}" >>"$RECORD/secrets"; echo >>"$RECORD/secrets" ;;
    --env-vars-file=*) cp "${word#*=}" "$RECORD/plain" ;;
  esac
done
case "$*" in
  "config get-value project") echo my-project ;;
  "secrets versions add"*) echo projects/1/secrets/x/versions/7 ;;
  "run services describe"*) echo https://my-chat.example.run.app ;;
  "secrets describe"*) exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources, with the tests' own virtual environment in it."""
    for name in ("chat", "dev", "main.py", "deploy.sh", "Makefile", "requirements-dev.txt"):
        source, target = ROOT / name, tmp_path / "app" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    (tmp_path / "app/.venv").symlink_to(Path(sys.prefix))
    (tmp_path / "bin").mkdir()
    gcloud = tmp_path / "bin/gcloud"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    return tmp_path / "app"


def _deploy(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    record = checkout.parent
    variables = clean_environment() | {"RECORD": str(record)} | environment
    variables["PATH"] = f"{record / 'bin'}:{variables['PATH']}"
    return subprocess.run(
        ["./deploy.sh", "my-chat"],
        cwd=checkout,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


ENV = """
GPT_API_KEY='sk-"secret"#1'
REDIS_HOST=quick-fox.upstash.io # a comment
REDIS_PASSWORD=pass=word,with:signs
ADMIN_KEY=long-admin-word-0
SYSTEM_PROMPT="Be brief, and: say 'please'."
"""


def test_the_command_line_is_exactly_this_and_holds_no_secret(checkout: Path) -> None:
    (checkout / ".env").write_text(ENV)
    done = _deploy(checkout)
    assert done.returncode == 0, done.stderr
    commands = (checkout.parent / "commands").read_text()
    deploy = next(line for line in commands.splitlines() if line.startswith("run deploy"))
    words = [word for word in deploy.split() if not word.startswith("--env-vars-file=")]
    assert (
        words
        == (
            "run deploy my-chat --region=us-central1 --source=. --function=main --base-image=python313"
            " --service-account=chatkeep-run@my-project.iam.gserviceaccount.com --allow-unauthenticated"
            " --cpu=1 --memory=512Mi --concurrency=200 --timeout=900 --min-instances=0 --max-instances=20"
            " --cpu-boost --set-secrets=ADMIN_KEY=my-chat-admin-key:7,GPT_API_KEY=my-chat-gpt-api-key:7,REDIS_PASSWORD=my-chat-redis-password:7"
            " --project=my-project --quiet"
        ).split()
    )
    assert json.loads((checkout.parent / "plain").read_text()) == {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "REDIS_HOST": "quick-fox.upstash.io",
        "SYSTEM_PROMPT": "Be brief, and: say 'please'.",
        "THREADS": "256",
    }
    assert (checkout.parent / "secrets").read_text() == (
        'long-admin-word-0\nsk-"secret"#1\npass=word,with:signs\n'
    )
    for secret in ("sk-", "pass=word", "long-admin-word-0"):
        assert secret not in commands + done.stdout + done.stderr
    assert "https://my-chat.example.run.app/demo/chat" in done.stdout


@pytest.mark.parametrize(
    "auth, wish, is_public",
    [
        ("keys", {}, True),
        ("keys", {"PUBLIC": "no"}, False),
        ("open", {}, False),
        ("open", {"PUBLIC": "yes"}, True),
        ("open,keys", {}, False),
    ],
)
def test_without_users_it_is_public_only_when_asked_for(
    checkout: Path, auth: str, wish: dict[str, str], is_public: bool
) -> None:
    (checkout / ".env").write_text(f"{ENV}AUTH={auth}\n")
    assert _deploy(checkout, **wish).returncode == 0
    commands = (checkout.parent / "commands").read_text()
    assert (" --allow-unauthenticated " in commands) == is_public
    assert (" --no-allow-unauthenticated " in commands) != is_public


def test_bad_settings_stop_it_before_anything_is_done(checkout: Path) -> None:
    (checkout / ".env").write_text("REDIS_PORT=x\n")
    done = _deploy(checkout)
    assert done.returncode == 1
    assert "GPT_API_KEY: is missing" in done.stderr and "ADMIN_KEY: is missing" in done.stderr
    assert "REDIS_PORT: must be" in done.stderr
    assert (checkout.parent / "commands").read_text() == "config get-value project\n"


def test_without_a_settings_file_it_says_what_to_do(checkout: Path) -> None:
    done = _deploy(checkout)
    assert done.returncode == 1 and "cp .env.example .env" in done.stderr


def test_what_is_uploaded_is_what_runs() -> None:
    ignored = (ROOT / ".gcloudignore").read_text().split()
    for name in ("tests/", "dev/", ".env", ".venv/", "requirements-dev.txt"):
        assert name in ignored
    for name in ("main.py", "chat/", "requirements.txt"):
        assert name not in ignored
