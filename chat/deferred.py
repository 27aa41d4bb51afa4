"""Put off an import that a library makes for us and that we do not need."""

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def defer(package: str) -> None:
    """Have a package inside another one wait until somebody asks for a name in it.

    Modules in it can be imported all the same. Unlike importlib's LazyLoader, which would then load
    the package as well.
    """
    parent = find_spec(package.rpartition(".")[0])
    inside = parent.submodule_search_locations if parent else None
    spec = PathFinder.find_spec(package, inside)
    if spec and package not in sys.modules:
        sys.modules[package] = module_from_spec(spec)
        sys.modules[package].__class__ = _Deferred


class _Deferred(ModuleType):
    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ and self.__spec__.loader
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)
