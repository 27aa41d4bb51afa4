"""deploy.sh before it asks anybody: its help, what it refuses, and how its scripts are written."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploying import need_gcloud
from tests.harness import ROOT, clean_environment

SCRIPTS = [
    ROOT / "deploy.sh",
    *sorted((ROOT / "deploy").glob("*.sh")),
    *sorted((ROOT / "dev").glob("*.sh")),
]


def _run(*options: str, folder: Path = ROOT, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(folder / "deploy.sh"), *options],
        env=clean_environment() | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_help_says_first_what_is_needed_and_names_every_option() -> None:
    code, said = _run("--help")
    assert code == 0
    assert "Needs gcloud" in said.splitlines()[0] and "no Python but gcloud's own" in said
    script = (ROOT / "deploy.sh").read_text()
    options = set(re.findall(r"--[a-z-]+", script[script.index("read_options()") :])) - {"--help"}
    assert len(options) > 15
    assert [option for option in options if option not in said] == []
    assert max(map(len, said.splitlines())) <= 100
    assert _run()[0] == 2 and "Deploys Chatkeep" in _run()[1]


@pytest.mark.parametrize(
    "options, said",
    [
        (["My-Chat"], "My-Chat cannot be its name"),
        (["x"], "x cannot be its name"),
        (["ends-"], "ends- cannot be its name"),
        (["a" * 27], "2 to 26"),
        (["chat", "other"], "One name only"),
        (["chat", "--dryrun"], "There is no option --dryrun"),
        (["chat", "--region"], "--region needs a value"),
        (["chat", "--min=few"], "whole numbers"),
        (["chat", "--runtime=python39"], "--runtime: python311"),
        (["chat", "--canary", "--classic"], "knows no canary"),
        (["--status"], "Which function?"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_a_sentence(options: list[str], said: str) -> None:
    code, told = _run(*options)
    assert code == 1 and said in told


def test_without_gcloud_or_settings_it_says_what_to_do(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "cat", "mktemp", "rm", "mkdir"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    code, said = _run("chat", PATH=str(tmp_path))
    assert code == 1 and "gcloud is missing: https://" in said
    need_gcloud()
    shutil.copytree(ROOT / "deploy", tmp_path / "app/deploy")
    shutil.copy2(ROOT / "deploy.sh", tmp_path / "app")
    code, said = _run("chat", folder=tmp_path / "app")
    assert code == 1 and "cp .env.example .env" in said


def test_who_deploys_this_folder_by_hand_uploads_what_runs_and_nothing_else(tmp_path: Path) -> None:
    need_gcloud()
    shutil.copytree(ROOT / "chat", tmp_path / "app/chat")
    for name in (".gcloudignore", "main.py", "requirements.txt", "Makefile"):
        shutil.copy2(ROOT / name, tmp_path / "app")
    wanted = {"main.py", "requirements.txt"} | {
        str(path.relative_to(tmp_path / "app"))
        for path in (tmp_path / "app/chat").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    unwanted = (".env", ".env.local", "dump.rdb", "chat/x.log", "chat/.env", "node_modules/x.js")
    for name in unwanted:
        (tmp_path / "app" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "app" / name).write_text("secret")
    done = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload"],
        cwd=tmp_path / "app",
        env=clean_environment() | {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert set(done.stdout.split()) == wanted


def test_the_scripts_are_clean_to_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        if os.environ.get("CI"):
            pytest.fail("shellcheck is missing here: dev/install-tools.sh installs it")
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "-x", "deploy.sh", *map(str, SCRIPTS[-1:]), ".ci/run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_no_script_is_too_long_or_too_wide() -> None:
    for script in SCRIPTS:
        lines = script.read_text().splitlines()
        assert len(lines) <= 300, script
        assert max(map(len, lines)) <= 100, script
