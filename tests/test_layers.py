"""The order of the packages, what is pure, and who may use which library."""

import ast
from pathlib import Path

from tests.harness import ROOT

# A package imports only from those to its right; `host` may be used by all but the pure ones.
ORDER = ["main", "app", "web", "turns", "models", "store", "settings", "core"]
PURE = ["core", "web/dialects", "models/agents/wire.py", "models/agents/connection.py"]
ALLOWED_IN_PURE = set(
    "msgspec bisect collections csv datetime hashlib io json math re secrets struct typing"
    " unicodedata urllib"
    " zlib".split()
)
# A library that does I/O, starts threads or tells the time: where it may be imported.
OWNERS = {
    "cryptography": ["store/vault.py"],
    "flask": ["web", "app.py", "main.py"],
    "gc": ["main.py"],
    "gunicorn": ["host/intake.py"],
    "hiredis": ["store/store.py"],
    "jwt": ["web/auth"],
    "openai": ["models/titles.py"],
    "os": ["settings", "host", "web/live", "main.py", "models/agents/__main__.py"],
    "redis": ["store/store.py", "store/stream_read.py", "store/failures.py", "app.py"],
    "select": ["host"],
    "signal": ["host", "models/agents/__main__.py"],
    "simple_websocket": ["models/agents/__main__.py"],
    "socket": ["host", "models", "web"],
    "ssl": ["models/upstream/connections.py"],
    "threading": [
        *["host", "models", "store", "web", "main.py"],
        *["turns/following.py", "turns/waiting.py"],  # locks: their state is shared by all requests
    ],
    "time": ["host", "models", "store", "turns", "web"],
    "urllib3": ["web/auth", "web/telemetry.py"],
    "werkzeug": ["web"],
    "wsproto": ["web/live"],
}
MAX_LINES = {".py": 300, ".lua": 60, ".c": 300}
MAX_COLUMNS = {".py": 160, ".lua": 100}


def _files() -> list[Path]:
    return [ROOT / "main.py", *sorted((ROOT / "chat").rglob("*.py"))]


def _name(path: Path) -> str:
    """`web/routes.py`, and `main.py` for the file beside the package."""
    inside = path.is_relative_to(ROOT / "chat")
    return str(path.relative_to(ROOT / "chat" if inside else ROOT))


def _package(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def _is_in(name: str, places: list[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _may_import(here: str, there: str) -> bool:
    if there == "host":
        return here not in ("core", "settings")
    if here == "host":
        return False
    return ORDER.index(here) < ORDER.index(there)


def _violations() -> list[str]:
    found = []
    for path in _files():
        name = _name(path)
        here = _package(name)
        if name == "__init__.py":
            continue
        for imported in sorted(_imports(path)):
            top, *rest = imported.split(".")
            if top == "chat":
                if rest[0] != here and not _may_import(here, rest[0]):
                    found.append(f"{name} imports {imported}, which does not stand to its right")
            elif top in OWNERS and not _is_in(name, OWNERS[top]):
                found.append(f"{name} uses {top}, which is for {OWNERS[top]} only")
            elif _is_in(name, PURE) and top not in ALLOWED_IN_PURE:
                found.append(f"{name} uses {top}, but it is pure")
    return found


def _lines_of(suffix: str) -> list[tuple[str, list[str]]]:
    folders = [ROOT / name for name in ("chat", "dev", "bench", "tests")]
    paths = [ROOT / "main.py", *(p for folder in folders for p in sorted(folder.rglob("*")))]
    return [(p.name, p.read_text().splitlines()) for p in paths if p.suffix == suffix]


def test_packages_import_only_to_their_right_and_only_their_own_libraries() -> None:
    assert _violations() == []


def test_no_key_of_redis_is_made_outside_the_store() -> None:
    outside = [path for path in _files() if _package(_name(path)) != "store"]
    assert [_name(path) for path in outside if '"ck:' in path.read_text()] == []
    assert [_name(path) for path in outside if "chat.store.keyspace" in _imports(path)] == []


def test_no_file_tells_two_stories() -> None:
    long = [
        f"{name}: {len(lines)} lines"
        for suffix, most in MAX_LINES.items()
        for name, lines in _lines_of(suffix)
        if len(lines) > most
    ]
    wide = [
        f"{name}:{number}"
        for suffix, most in MAX_COLUMNS.items()
        for name, lines in _lines_of(suffix)
        for number, line in enumerate(lines, 1)
        if len(line) > most
    ]
    assert (long, wide) == ([], [])


def test_every_package_has_a_map_that_names_its_files() -> None:
    missing = []
    for init in sorted((ROOT / "chat").rglob("__init__.py")):
        text = init.read_text()
        for entry in sorted(init.parent.iterdir()):
            is_package = (entry / "__init__.py").exists()
            is_file = entry.suffix == ".py" and not entry.stem.startswith("__")
            if (is_file or is_package) and entry.stem not in text:
                missing.append(f"{_name(init)} does not name {entry.name}")
    assert missing == []
