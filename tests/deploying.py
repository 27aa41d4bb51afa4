"""deploy.sh in a checkout of its own, with the real gcloud and a stand-in of what it asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.model import ModelServer
from dev.redis_server import RedisServer
from tests.google_builds import Builds
from tests.google_functions import Functions
from tests.google_run import Cloud
from tests.harness import ROOT, clean_environment
from tests.traces import find_secret

ADMIN_KEY = "admin-0123456789abcdef0123456789abcdef"
ENV = f"""
GPT_API_KEY='sk-"secret"#1'
REDIS_HOST=eu1-quick-fox.upstash.io # a comment
REDIS_PASSWORD=pass=word,with:signs
OPENAI_BASE_URL=https://models.example.com/v1
ADMIN_KEY={ADMIN_KEY}
SYSTEM_PROMPT="Be brief, and: say 'please'."
ALLOWED_MODELS=
"""
SECRETS = ("sk-", "pass=word", ADMIN_KEY)
DEPLOYED = ("chat", "main.py", "requirements.txt")
# Puts what it was told where the tests look for secrets, and is then what it stands for.
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "{name} $*" >>"{record}"
exec "{real}" "$@"
"""


def need_gcloud() -> None:
    """Skip on a laptop without gcloud; fail in CI, unless it cannot be had there."""
    if shutil.which("gcloud"):
        return
    policy = ["apt-cache", "policy", "google-cloud-cli"]
    known = subprocess.run(policy, capture_output=True, text=True, check=False).stdout
    if os.environ.get("CI") and "Candidate:" in known and "Candidate: (none)" not in known:
        pytest.fail("gcloud is missing here: dev/install-tools.sh installs it")
    pytest.skip("gcloud is not installed")


class Deployer:
    """A checkout as a user has it, with things in it that must not be uploaded."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        self.cloud, self.folder = cloud, folder / "app"
        self.record = folder / "commands"
        self.name = "my-chat"
        for name in (*DEPLOYED, "deploy", "dev", "deploy.sh"):
            source, target = ROOT / name, self.folder / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
        (self.folder / ".venv").symlink_to(Path(sys.prefix))
        (self.folder / ".env").write_text(ENV)
        for name in (".env.local", "dump.rdb", "chat/debug.log", "chat/.DS_Store", "Dockerfile"):
            (self.folder / name).write_text("not to be uploaded")
        (self.folder / "node_modules").mkdir()
        (folder / "bin").mkdir()
        for name in ("gcloud", "curl"):
            real = shutil.which(name)
            program = folder / "bin" / name
            program.write_text(RECORDER.format(name=name, record=self.record, real=real))
            program.chmod(0o755)
        self.environment = clean_environment() | cloud.environment(folder / "gcloud")
        self.environment["PATH"] = f"{folder / 'bin'}:{self.environment['PATH']}"
        self.environment["TMPDIR"] = str(folder)

    def run(self, *options: str, fails: bool = False) -> str:
        """What deploy.sh says, on either stream; that it went well, or badly, is checked."""
        done = subprocess.run(
            ["./deploy.sh", self.name, *options],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def deploy(self, *options: str, fails: bool = False) -> str:
        return self.run("--no-ping", *options, fails=fails)

    def set(self, before: str, after: str) -> None:
        """Change a text in .env."""
        text = (self.folder / ".env").read_text()
        assert before in text
        (self.folder / ".env").write_text(text.replace(before, after))

    @property
    def service(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.cloud.services[self.name]["spec"]["template"]["spec"]
        return spec

    def variables(self) -> dict[str, str]:
        """Of what was deployed; a secret as `name:version`."""
        found = {}
        for one in self.service["containers"][0]["env"]:
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            found[one["name"]] = (
                f"{reference['name']}:{reference['key']}" if reference else one["value"]
            )
        return found

    def traffic(self) -> dict[str, int]:
        """Percent by revision; only what gets any."""
        shares = self.cloud.services[self.name]["status"]["traffic"]
        return {one["revisionName"]: one["percent"] for one in shares if one.get("percent")}


def new_cloud(folder: Path, swap: dict[str, str]) -> Cloud:
    cloud = Cloud(folder, swap)
    cloud.add(Builds(cloud))
    cloud.add(Functions(cloud))
    return cloud


def started_deployer(folder: Path, model: ModelServer) -> Iterator[Deployer]:
    """With a Redis of its own; afterwards, what must hold whatever a test did is checked."""
    need_gcloud()
    (folder / "redis").mkdir()
    redis = RedisServer(folder / "redis").start()
    swap = {"REDIS_HOST": "", "REDIS_PASSWORD": "", "OPENAI_BASE_URL": model.url}
    cloud = new_cloud(folder, {**swap, "THREADS": "16"})
    cloud.extra = {"REDIS_URL": redis.url}
    deployer = Deployer(folder, cloud)
    try:
        yield deployer
        assert cloud.unexpected == []
        _assert_secrets_are_where_they_belong(deployer)
    finally:
        cloud.stop()
        redis.stop()


def _assert_secrets_are_where_they_belong(deployer: Deployer) -> None:
    """Not on any command line, and in no request but one that stores or reads a secret."""
    commands = deployer.record.read_text()
    for call in deployer.cloud.calls:
        if "secretmanager" not in call.api:
            commands += f"{call.path} {call.query} {call.body[:20000]!r}"
    assert [one for one in SECRETS if one in commands] == []
    assert find_secret(commands.encode()) is None
    left = {path.name for path in deployer.record.parent.iterdir() if path.name.startswith("tmp.")}
    assert left == set()
