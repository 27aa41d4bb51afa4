"""The agent as `uvx` and `pipx` install it: with the few packages that pyproject.toml names."""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests.harness import ROOT, clean_environment

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _closure(requirements: list[str], extras: set[str]) -> set[str]:
    """The distributions that an installer would bring for these requirements."""
    names: set[str] = set()
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        needed = importlib.metadata.requires(requirement.name) or []
        names |= {requirement.name} | _closure(needed, requirement.extras)
    return names


def _link(distribution: str, folder: Path) -> None:
    """Make what a distribution brings importable from the folder, and nothing else."""
    for file in importlib.metadata.files(distribution) or []:
        source = Path(str(file.locate())).resolve()
        target = folder / file
        if ".." not in file.parts and source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def test_it_starts_with_the_packages_that_are_named_alone(tmp_path: Path) -> None:
    for distribution in _closure(_PROJECT["dependencies"], set()):
        _link(distribution, tmp_path)
    shutil.copytree(ROOT / "chat", tmp_path / "chat")
    module, _, function = _PROJECT["scripts"]["chatkeep-agent"].partition(":")
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    started = subprocess.run(
        [sys.executable, "-S", "-c", program, "--help"],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert started.returncode == 0, started.stderr
    assert "--upstream" in started.stdout


def test_nothing_of_a_server_is_installed_with_it() -> None:
    names = _closure(_PROJECT["dependencies"], set())
    assert names == {"msgspec", "redis", "hiredis", "simple-websocket", "wsproto", "h11"} | (
        {"async-timeout"} if sys.version_info < (3, 11, 3) else set()
    )
