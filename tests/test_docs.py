"""What is written down is true: settings, commands, dependencies."""

import re
import subprocess

from dev.docs import env_example, with_settings
from tests.harness import ROOT, all_routes


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_setting_stands_in_the_example_with_its_help() -> None:
    assert _read(".env.example") == env_example(), "run `make docs`"


def test_every_setting_stands_in_the_readme() -> None:
    assert _read("README.md") == with_settings(_read("README.md")), "run `make docs`"


def test_every_dependency_earns_its_line_in_the_readme() -> None:
    wanted = re.findall(r"^([a-z][a-z0-9-]+)", _read("requirements.in"), re.M)
    assert [name for name in wanted if f"| {name} |" not in _read("README.md")] == []


def test_every_dependency_is_pinned_with_hashes() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        blocks = re.split(r"\n(?=\S)", _read(name).strip())
        assert [
            b for b in blocks if b[0] != "#" and not ("==" in b and "--hash=sha256:" in b)
        ] == []


def test_what_runs_is_the_same_in_development() -> None:
    pins = [
        set(re.findall(r"^(\S+==\S+)", _read(n), re.M))
        for n in ("requirements.txt", "requirements-dev.txt")
    ]
    assert pins[0] <= pins[1]


def test_every_make_target_that_is_named_exists() -> None:
    text = (
        _read("README.md") + _read("CONTRIBUTING.md") + _read("Makefile").replace("# make", "make")
    )
    for target in set(re.findall(r"`make ([a-z-]+)`|^ *make ([a-z-]+)", text, re.M)):
        name = "".join(target)
        assert (
            subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True).returncode == 0
        ), name


def test_the_version_is_said_once() -> None:
    from chat.settings import VERSION

    assert f'version = "{VERSION}"' in _read("pyproject.toml")
    changelog = _read("CHANGELOG.md")
    assert "## [Unreleased]" in changelog
    assert re.findall(r"^## \[(\d.*?)\]", changelog, re.M)[:1] in ([], [VERSION])


def test_every_route_stands_in_the_readme() -> None:
    for route in all_routes():
        path = route.path.replace("not_reserved:", "").replace("path:", "")
        if (route.method, path) != ("DELETE", "/<chat_id>/chat"):  # said beside /<chat_id>
            assert f"| `{route.method}` | `{path}` |" in _read("README.md"), route
