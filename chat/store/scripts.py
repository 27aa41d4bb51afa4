"""The Lua scripts: headers that name keys and arguments, and calls that are checked against them.

    --#keys chat history everybody?    the last name may be optional (`?`: nil when left out),
    --#args nonce lease_ms fields...   or a list of any length (`...`: a table)
    --#include clock spent             the text of parts/clock.lua and parts/spent.lua

Each header line becomes Lua in its place: `local chat, history = KEYS[1], KEYS[2]`. A long list of
names may be spread over several lines. So no script counts positions in KEYS and ARGV, and a call
with a missing or unknown name raises TypeError before anything is sent.
"""

import functools
import hashlib
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

_LUA = Path(__file__).parent / "lua"
_HEADER = re.compile(r"^--#(\w+) +(.+)$", re.MULTILINE)
_NAME = re.compile(r"([a-z_]+)(\?|\.\.\.)?")


class Signature(msgspec.Struct, frozen=True):
    """The names of a script's keys, or of its arguments, in the order in which it takes them."""

    names: tuple[str, ...]
    optional: str
    variadic: str
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]  # the values of `names`

    def arrange(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in order; raises TypeError when a name is missing or unknown."""
        try:
            values = self.pick(given)
            if len(values) == len(given) and not self.variadic:
                return values
            return values + self._last(given)
        except KeyError as missing:
            raise TypeError(f"{missing} is missing") from None

    def _last(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """What follows the values of `names`."""
        declared = filter(None, (*self.names, self.optional, self.variadic))
        if unknown := sorted(set(given).difference(declared)):
            raise TypeError(f"{', '.join(map(repr, unknown))} is unknown")
        if self.optional:
            return (given[self.optional],)
        values = given[self.variadic]
        if isinstance(values, str | bytes):  # which Python would take for a list of characters
            raise TypeError(f"{values!r} is not a list")
        return tuple(values)


class Script(msgspec.Struct, frozen=True):
    """A script as Redis is sent it, and the hash by which Redis knows it afterwards."""

    name: str
    source: str
    sha1: str
    keys: Signature
    args: Signature

    def arrange(
        self, keys: Mapping[str, Any], args: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Keys and arguments in order; raises TypeError when a name is missing or unknown."""
        try:
            return self.keys.arrange(keys), self.args.arrange(args)
        except TypeError as error:
            raise TypeError(f"{self.name}.lua: {error}") from None


@functools.cache
def load_scripts(first_line: str = "") -> dict[str, Script]:
    """All scripts by name, each with `first_line` in front; read once per process."""
    parts = {path.stem: path.read_text() for path in (_LUA / "parts").glob("*.lua")}
    return {
        path.stem: parse_script(path.stem, path.read_text(), parts, first_line)
        for path in _LUA.glob("*.lua")
    }


def parse_script(name: str, text: str, parts: Mapping[str, str], first_line: str = "") -> Script:
    """Write out the header of a script; raises ValueError for one that is malformed."""
    declared: dict[str, list[str]] = {"keys": [], "args": []}

    def write_out(match: re.Match[str]) -> str:
        kind, items = match[1], match[2].split()
        if kind == "include":
            return "\n".join(parts[part] for part in items)
        if kind not in declared:
            raise ValueError(f"{name}.lua: --#{kind} is no header")
        first = len(declared[kind]) + 1
        declared[kind] += items
        return _locals("KEYS" if kind == "keys" else "ARGV", items, first)

    source = first_line + _HEADER.sub(write_out, text)
    sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    keys, args = (_read_signature(name, items) for items in declared.values())
    both = {*keys.names, keys.optional, keys.variadic} & {*args.names, args.optional, args.variadic}
    if both - {""}:
        raise ValueError(f"{name}.lua: {both - {''}} names a key and an argument")
    return Script(name, source, sha1, keys, args)


def _read_signature(script: str, items: list[str]) -> Signature:
    names: list[str] = []
    marks: list[str] = []
    for item in items:
        match = _NAME.fullmatch(item)
        if not match or match[1] in names:
            raise ValueError(f"{script}.lua: {item!r} is no name, or used twice")
        names.append(match[1])
        marks.append(match[2] or "")
    if any(marks[:-1]):
        raise ValueError(f"{script}.lua: only the last name may have a mark: {items}")
    mark = marks[-1] if marks else ""
    last = names.pop() if mark else ""
    return Signature(
        tuple(names),
        optional=last if mark == "?" else "",
        variadic=last if mark == "..." else "",
        pick=_picker(names),
    )


def _picker(names: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A function that picks values by name, as fast as Python can."""
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda given: tuple(given[name] for name in names)


def _locals(table: str, items: list[str], first: int) -> str:
    """The Lua that gives the values their names, from position `first` of KEYS or ARGV on."""
    values = [f"{table}[{first + i}]" for i in range(len(items))]
    names = [item.rstrip("?.") for item in items]
    copying = ""
    if items[-1].endswith("..."):
        name, before = names[-1], first + len(items) - 2
        values[-1] = "{}" if before else table
        if before:  # a loop, since Lua's stack has room for 8,000 values only
            from_there = f"for i = {before + 1}, #{table} do"
            copying = f"; {from_there} {name}[i - {before}] = {table}[i] end"
    return f"local {', '.join(names)} = {', '.join(values)}{copying}"
