"""The rows of chat/__init__.py, and who may use which library."""

import ast
from pathlib import Path

from tests.harness import ROOT

ROWS = [  # bottom row first
    {
        "messages",
        "events",
        "errors",
        "credentials",
        "keyspace",
        "limits",
        "settings",
        "sse",
        "http1",
        "completions",
        "shutdown",
        "relay",
        "deferred",
    },
    {"turn", "context", "branches", "outcomes", "usage", "dialects"},
    {"store", "vault"},
    {"history", "chats", "users", "streams", "upstream", "idtokens"},
    {"run", "titles", "agents"},
    {"recovery", "models"},
    {"reader"},
    {"turns"},
    {"owners"},
    {"web"},
    {"app", "agent"},
]
# Within the bottom row, codecs and events may use the values.
VALUES = {"messages", "errors", "limits"}
DRIVERS = {"run", "reader", "recovery", "turns", "web"}
OWNERS = {
    "redis": {"store", "app"},
    "hiredis": {"store"},
    "urllib3": {"idtokens"},
    "jwt": {"idtokens"},
    "cryptography": {"vault"},
    "openai": {"titles"},
    "flask": {"web", "app"},
    "werkzeug": {"web"},
    "os": {"settings", "shutdown", "web", "agent"},
    "signal": {"shutdown", "agent"},
    "simple_websocket": {"agent"},
    "wsproto": {"web"},
    "socket": {"upstream", "relay", "web", "agents"},
    "ssl": {"upstream"},
    "time": {"upstream", "history", "users", "streams", "shutdown", "relay", "idtokens"}
    | {"agents", "agent"}
    | DRIVERS,
    "threading": {"titles", "store", "streams", "shutdown", "relay", "idtokens"}
    | {"agents", "agent", "web"},
}
PURE = ROWS[1] | set(
    "messages events errors credentials keyspace limits sse http1 completions".split()
)
PURE_FILES = {"chat/agents/wire.py", "chat/agents/connection.py"}
ALLOWED_IN_PURE = set(
    "msgspec collections csv dataclasses datetime hashlib io json re secrets typing urllib".split()
)


def _module_of(path: Path) -> str:
    return path.relative_to(ROOT / "chat").parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            package = node.module == "chat"
            names |= {f"chat.{a.name}" for a in node.names} if package else {node.module}
    return names


def _files() -> list[Path]:
    return [path for path in (ROOT / "chat").rglob("*.py") if path != ROOT / "chat/__init__.py"]


def _row(module: str) -> int:
    return next(number for number, row in enumerate(ROWS) if module in row)


def _violations() -> list[str]:
    found = []
    for path in _files():
        here = _module_of(path)
        for name in _imports(path):
            top, _, rest = name.partition(".")
            there = rest.partition(".")[0]
            if top == "chat":
                fine = there == here or _row(there) < _row(here) or there in VALUES - {here}
                if not fine:
                    found.append(f"{path.name} imports {name}, which is not in a lower row")
            elif top in OWNERS and here not in OWNERS[top]:
                found.append(f"{path.name} uses {top}, which is for {sorted(OWNERS[top])} only")
            elif (
                here in PURE or str(path.relative_to(ROOT)) in PURE_FILES
            ) and top not in ALLOWED_IN_PURE:
                found.append(f"{path.name} uses {top}, but its row is pure")
    return found


def test_every_module_has_a_row() -> None:
    assert {_module_of(path) for path in _files()} == set().union(*ROWS)


def test_modules_import_only_from_lower_rows_and_only_their_own_libraries() -> None:
    assert _violations() == []


def test_no_file_tells_two_stories() -> None:
    files = [
        *_files(),
        *(ROOT / "chat").rglob("*.lua"),
        *(ROOT / "dev").glob("*.py"),
        *(path for path in (ROOT / "bench").iterdir() if path.suffix in (".py", ".c")),
        ROOT / "main.py",
    ]
    limits = {".py": 400, ".lua": 40, ".c": 400}
    assert [p.name for p in files if len(p.read_text().splitlines()) > limits[p.suffix]] == []


def test_the_package_docstring_names_every_module() -> None:
    text = (ROOT / "chat/__init__.py").read_text()
    files = {f"{module}.py" for row in ROWS for module in row} - {
        "dialects.py",
        "web.py",
        "agents.py",
    }
    assert [name for name in sorted(files) if name not in text] == []
