"""`make bench`: how fast it is, beside a bare function and the same product in fifty lines.

Everything runs here, on loopback: the subject alone on one core, model, clients and Redis on the
other. Writes its tables into docs/performance.md, when they are whole and the machine was quiet.
`--variant THREADS=64` measures ours with other settings as well, `--beside <folder>` another
checkout.
"""

import argparse
import datetime
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import tables
from bench.load import NO_COMPILER, can_compile
from bench.measures import QUICK, Bench, Plan
from bench.server import share_cores
from bench.subjects import OURS, SUBJECTS, Subject
from tests.harness import ROOT

_PAGE = "docs/performance.md"
_QUIET = 1.0
_SHORT_PROMPTS = replace(
    OURS,
    name="Chatkeep, prompts of 300 tokens",  # which ten messages fill
    environment={**OURS.environment, "MAX_PROMPT_TOKENS": "300"},
)


def main() -> int:
    """Measure, print, and write the table where it belongs."""
    options = _read_options()
    if not can_compile():
        print(NO_COMPILER)
        return 0
    subjects, load = _choose(options), os.getloadavg()[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and nothing is left behind
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), share_cores(), QUICK if options.quick else Plan())
        try:
            _measure(bench, subjects)
        finally:
            bench.close()
    where = f"{datetime.date.today()}, {_machine()}, load {load:.1f} before it began"
    text = tables.write(bench.results, subjects, _SHORT_PROMPTS, where)
    print(text)
    if options.quick or options.variant or options.beside or options.only:
        return 0
    if load > _QUIET and not options.write:
        print(f"{_PAGE} stays as it is: the machine was busy (load {load:.1f}); --write insists.")
        return 0
    page = ROOT / _PAGE
    page.write_text(tables.with_speed(page.read_text(), text))
    return 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in less than a minute")
    parser.add_argument("--write", action="store_true", help=f"into {_PAGE}, also when busy")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--beside", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--only", action="append", default=[], metavar="SUBJECT")
    return parser.parse_args()


def _machine() -> str:
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    return f"{os.cpu_count()} cores {''.join(names[:1])}, Python {platform.python_version()}"


def _choose(options: argparse.Namespace) -> list[Subject]:
    variants = [_variant(setting) for setting in options.variant]
    checkouts = [replace(OURS, name=Path(f).name, folder=Path(f)) for f in options.beside]
    there = [s for s in SUBJECTS if s.is_there and (not options.only or s.name in options.only)]
    return [*there, *variants, *checkouts]


def _variant(setting: str) -> Subject:
    name, _, value = setting.partition("=")
    return replace(OURS, name=f"Chatkeep, {setting}", environment={**OURS.environment, name: value})


def _measure(bench: Bench, subjects: list[Subject]) -> None:
    steps: list[tuple[str, Callable[[], None]]] = [
        ("cold starts", lambda: bench.start(subjects)),
        ("turns", lambda: bench.turns(subjects)),
        ("streams", lambda: bench.streams(subjects)),
        ("streams one after the other", lambda: bench.steady(subjects)),
        ("as many chunks as it carries", lambda: bench.floods(subjects)),
        ("a thousand streams", lambda: bench.crowds(subjects)),
        ("long histories", lambda: bench.histories([*subjects, _SHORT_PROMPTS])),
    ]
    for name, step in steps:
        print(f"{name} ...", file=sys.stderr, flush=True)
        step()


if __name__ == "__main__":
    sys.exit(main())
