"""Dockerfile and docker-compose.yml, as far as that can be tried without a container."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chat.settings import all_fields
from dev.redis_server import RedisServer
from tests.harness import ROOT, clean_environment, free_port, wait_until

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n", "", DOCKERFILE)
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/tmp"}


def _command(name: str) -> list[str]:
    """The list of words after CMD or HEALTHCHECK ... CMD."""
    line = next(line for line in LINES.splitlines() if line.startswith(name))
    words: list[str] = json.loads(line[line.index("[") :])
    return words


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What COPY puts into the image."""
    for source, target in re.findall(r"^COPY (\S+) (\S+)$", DOCKERFILE, re.M):
        place = tmp_path / (source if target == "." else target)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / source, place)
    return tmp_path


def test_the_image_starts_is_healthy_with_its_redis_only_and_ends_when_told(
    image: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    redis = RedisServer(tmp_path_factory.mktemp("redis")).start()
    port = str(free_port())
    settings = {"PORT": port, "REDIS_URL": redis.url, "GPT_API_KEY": "k"}
    environment = clean_environment() | ENVIRONMENT | settings
    process = subprocess.Popen(_command("CMD"), cwd=image, env=environment)

    def is_healthy() -> bool:
        check = [sys.executable if w == "python" else w for w in _command("HEALTHCHECK")]
        done = subprocess.run(check, env=environment, capture_output=True, timeout=10)
        return done.returncode == 0

    try:
        assert wait_until(is_healthy, 20)
        redis.stop()
        assert not is_healthy()
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_no_secret_and_no_root_in_the_image() -> None:
    secrets = [field.variable for field in all_fields() if field.secret]
    assert [name for name in secrets if name in DOCKERFILE] == []
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.M)
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("\nCMD ")
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored and not [line for line in ignored if line.startswith("!.env")]


def test_compose_keeps_the_history_and_shows_the_function_to_this_machine_only() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    assert '"--appendonly", "yes"' in compose and "history:/data" in compose
    assert re.findall(r'- "([\d.:]+)"', compose) == ["127.0.0.1:8080:8080"]


def test_a_deploy_to_cloud_run_does_not_take_the_dockerfile_for_its_own() -> None:
    assert "Dockerfile" in (ROOT / ".gcloudignore").read_text().split()
