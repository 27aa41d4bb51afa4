"""What is written down is true: settings, commands, dependencies."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chat.turns.report import TurnReport, TurnTimes
from chat.web.access_log import RequestEntry
from dev.docs import env_example, with_settings
from tests.harness import ADMIN_KEY, ROOT, StartFunction, all_routes

_PAGES = sorted(
    str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
)
_README_LINES = 250
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*(?:\.(?:py|lua|md|sh|svg|toml|txt|in|yml|c|json)|/)")
_MADE_BY_COMMANDS = (".data/", ".peers/", ".clients/", ".venv/", ".venv-run/")


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", _read(page), flags=re.M | re.S)


def _anchors(page: Path) -> set[str]:
    """What GitHub lets one link to in a page: its headings in lower case, words joined by dashes."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_example_has_the_settings_that_one_fills_in() -> None:
    assert _read(".env.example") == env_example(), "run `make docs`"


def test_every_setting_stands_in_its_table() -> None:
    page = _read("docs/settings.md")
    assert page == with_settings(page), "run `make docs`"


def test_the_readme_can_be_read_in_one_go() -> None:
    lines = _read("README.md").splitlines()
    assert len(lines) <= _README_LINES
    assert any(line.startswith("$ make run") for line in lines[:20])


@pytest.mark.parametrize("page", _PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    named = [word for word in re.findall(r"`([^`\n]+)`", _prose(page)) if _FILE.fullmatch(word)]
    assert [
        name
        for name in named
        if name not in _MADE_BY_COMMANDS
        and not any((folder / name).exists() for folder in (ROOT, ROOT / "chat"))
    ] == []


@pytest.mark.parametrize("page", _PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for link in _LINK.findall(_prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", _PAGES)
def test_every_module_that_is_to_be_run_exists(page: str) -> None:
    for module in re.findall(r"python -m ([\w.]+)", _read(page)):
        assert importlib.util.find_spec(module), module


def test_every_dependency_earns_its_line_in_the_readme() -> None:
    wanted = re.findall(r"^([a-z][a-z0-9-]+)", _read("requirements.in"), re.M)
    assert [name for name in wanted if f"| {name} |" not in _read("README.md")] == []


def test_every_dependency_is_pinned_with_hashes() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-run.txt"):
        blocks = re.split(r"\n(?=\S)", _read(name).strip())
        assert [
            b for b in blocks if b[0] != "#" and not ("==" in b and "--hash=sha256:" in b)
        ] == []


def test_what_runs_is_the_same_in_development() -> None:
    run, local, development = (
        set(re.findall(r"^(\S+==\S+)", _read(f"requirements{name}.txt"), re.M))
        for name in ("", "-run", "-dev")
    )
    assert run | local <= development


@pytest.mark.parametrize("page", _PAGES)
def test_every_make_target_that_is_named_exists(page: str) -> None:
    targets = re.findall(r"(?:`|^(?:\$ )?)make (?:[A-Z]+=\S+ )?([a-z-]+)", _read(page), re.M)
    for target in sorted(set(targets)):
        made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True)
        assert made.returncode == 0, target


def test_the_runbook_says_of_every_error_code_what_to_do() -> None:
    code = re.compile(r"""\bcode(?:: str)? ?= ?"([a-z_]+)\"""")
    sources = [path.read_text() for path in (ROOT / "chat").rglob("*.py")]
    codes = {found for source in sources for found in code.findall(source)}
    _, _, runbook = _read("docs/operations.md").partition("## Runbook")
    table = [line for line in runbook.splitlines() if line.startswith("| `")]
    told = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert len(codes) > 20 and codes - told == set()


def test_every_field_of_a_line_of_the_log_is_explained() -> None:
    page = _read("docs/operations.md")
    report = TurnReport("", "", "failed", "", 0, 0, "", "", 0, 0, TurnTimes(0, 0, 1))
    entry = RequestEntry("", "", "", report=report)
    assert [name for name in entry.facts() if name != "trace" and f"`{name}`" not in page] == []


def test_the_version_is_said_once() -> None:
    from chat.settings import VERSION

    assert f'version = "{VERSION}"' in _read("pyproject.toml")
    changelog = _read("CHANGELOG.md")
    assert "## [Unreleased]" in changelog
    assert re.findall(r"^## \[(\d.*?)\]", changelog, re.M)[:1] in ([], [VERSION])


def test_every_route_stands_in_a_table() -> None:
    tables = _read("README.md") + _read("docs/api.md")
    for route in all_routes():
        path = route.path.replace("not_reserved:", "").replace("path:", "")
        if (route.method, path) != ("DELETE", "/<chat_id>/chat"):  # said beside /<chat_id>
            assert f"| `{route.method}` | `{path}` |" in tables, route


def test_every_call_of_the_readme_works_in_its_order(
    start_function: StartFunction, chat_id: str
) -> None:
    if not shutil.which("curl"):
        assert not os.environ.get("CI"), "curl is missing"
        pytest.skip("curl is missing")
    function = start_function(AUTH="local,keys", ADMIN_KEY=ADMIN_KEY)
    real = {"localhost:8080": f"127.0.0.1:{function.port}", "/demo/": f"/{chat_id}/"}
    shown = {
        '"id":"': r"msg_1fc39\.\.\.",
        'event: completed\ndata: {"id":"': r"msg_3b8e1\.\.\.",
        '"token":"': r"ck_ada_5ab51ecf\.\.\.",
    }
    for call in re.findall(r"^ *\$ (curl .+)$", _read("README.md"), re.M):
        for there, here in real.items():
            call = re.sub(there, here, call)
        answer = _run(call.replace("curl", "curl --silent --show-error --fail-with-body", 1))
        for before, there in shown.items():
            if found := re.search(re.escape(before) + r"(\w+)", answer):
                real.setdefault(there, found[1])


def _run(call: str) -> str:
    environment = os.environ | {"ADMIN_KEY": ADMIN_KEY}
    done = subprocess.run(
        ["bash", "-c", call], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, f"{call}: {done.stdout}{done.stderr}"
    return done.stdout
