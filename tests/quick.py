"""`pytest --quick`: only the tests that need no Redis and start no process, told by their code."""

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

_LIVE_FIXTURES = {"redis_server", "model_server", "start_function", "start_local", "own_redis"}
_OURS = ("tests.", "test_", "dev.", "bench.")


def is_quick(item: pytest.Item) -> bool:
    """Whether it has no fixture that is a process, and nothing that it calls names `subprocess`."""
    if not isinstance(item, pytest.Function) or _LIVE_FIXTURES & set(item.fixturenames):
        return False
    return not _starts_processes(item.function, set())


def forbid_processes() -> None:
    """From here on it is an error to start one: no test is taken for a quick one by mistake."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        raise RuntimeError("a quick test starts a process")


def _starts_processes(thing: Any, seen: set[int]) -> bool:
    """Follows what functions and classes of the tests, of dev and of bench use."""
    for function in _functions(thing):
        if id(function) in seen:
            continue
        seen.add(id(function))
        names = set(_names(function.__code__)) & set(function.__globals__)
        if "subprocess" in names:
            return True
        if any(_starts_processes(function.__globals__[name], seen) for name in names):
            return True
    return False


def _functions(thing: Any) -> Iterator[FunctionType]:
    if not str(getattr(thing, "__module__", "")).startswith(_OURS):
        return
    for part in vars(thing).values() if isinstance(thing, type) else [thing]:
        function = inspect.unwrap(part) if callable(part) else None
        if isinstance(function, FunctionType):
            yield function


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function, and those inside it, use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
