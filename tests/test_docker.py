"""docker/Dockerfile and docker-compose.yml, as far as that can be tried without a container."""

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

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
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
    settings = {"PORT": port, "REDIS_URL": redis.url, "GPT_API_KEY": "k", "ADMIN_KEY": "a" * 16}
    settings |= dict(re.findall(r"\b(AUTH)=(\w+)", LINES))
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


def test_whoever_reaches_the_image_needs_a_key_unless_told_otherwise() -> None:
    assert re.search(r"^ENV .*\bAUTH=keys$", LINES, re.M)
    compose = (ROOT / "docker-compose.yml").read_text()
    assert (
        "AUTH: ${AUTH-}" in compose and '[ -n "$$AUTH$$ADMIN_KEY" ] || export AUTH=open' in compose
    )


def test_every_image_is_pinned_to_its_bytes() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    images += re.findall(r"image: (\S+)", (ROOT / "docker-compose.yml").read_text())
    assert len(images) == 2
    assert all(re.search(r":\S+@sha256:[0-9a-f]{64}$", image) for image in images)


def test_a_deploy_to_cloud_run_does_not_take_the_dockerfile_for_its_own() -> None:
    """gcloud looks for one in the folder that is deployed, whatever is ignored there."""
    assert not (ROOT / "Dockerfile").exists()


def test_compose_without_settings_talks_to_the_demo_model_and_with_them_to_theirs() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    script = compose[compose.index('        [ -n "$$') : compose.index("        exec functions")]
    script = script.replace("$$", "$") + 'printf %s "$OPENAI_BASE_URL"'
    for settings, base_url in (
        ({}, "http://127.0.0.1:9000/v1"),
        ({"GPT_API_KEY": ""}, "http://127.0.0.1:9000/v1"),
        ({"GPT_API_KEY": "k"}, ""),
        ({"OPENAI_BASE_URL": "http://x/v1"}, "http://x/v1"),
    ):
        done = subprocess.run(["sh", "-c", script], env=settings, capture_output=True, check=True)
        assert done.stdout.decode() == base_url
