"""What measures speed measures right: the model and the clients in C, and the tables."""

import dataclasses
import os
from pathlib import Path

import pytest

from bench import tables
from bench.load import Clients, Heard, Load, Model, can_compile
from bench.results import Reading, Results
from bench.subjects import FIFTY, MODEL, OURS
from tests.harness import ROOT

_PATH, _BODY = MODEL.path, MODEL.body
_HEARD = Heard(100, 0, 800, 50.0, 400.0, 1.0, 2.0, 3.0, 4.0, 2.0, 0.1)


def _hear(folder: Path, load: Load, body: str, path: str = _PATH) -> Heard:
    model = Model(folder)
    try:
        model.pace(load)
        return Clients(folder).run(load, model.port, path, body, "X-Some: header\r\n")
    finally:
        model.stop()


needs_compiler = pytest.mark.skipif(
    not can_compile() and not os.environ.get("CI"), reason="needs Linux and cc"
)


@needs_compiler
def test_every_chunk_of_every_stream_is_counted_once(tmp_path: Path) -> None:
    load = Load(clients=20, chunks=5, turns=3, pause_ms=2)
    heard = _hear(tmp_path, load, MODEL.body_of(stream=True))
    assert (heard.turns, heard.failed, heard.chunks) == (60, 0, 300)
    assert heard.first_ms_p50 >= 2
    assert heard.turn_ms_p50 >= load.ideal_ms == 10


@needs_compiler
def test_unstreamed_turns_go_on_until_the_time_is_over(tmp_path: Path) -> None:
    heard = _hear(tmp_path, Load(clients=4, chunks=8, seconds=0.2, stream=False), _BODY)
    assert heard.failed == 0
    assert heard.turns > 10
    assert 0.2 <= heard.seconds < 5


@needs_compiler
def test_clients_begin_one_after_the_other(tmp_path: Path) -> None:
    load = Load(clients=5, chunks=1, turns=1, pause_ms=2, spread_ms=400)
    heard = _hear(tmp_path, load, MODEL.body_of(stream=True))
    assert (heard.turns, heard.failed) == (5, 0)
    assert 0.32 <= heard.seconds < 5  # the last one begins when four fifths are over
    assert heard.cpu_seconds < 0.1  # who waits does not spin


@needs_compiler
def test_an_answer_that_is_too_short_is_a_turn_that_failed(tmp_path: Path) -> None:
    model = Model(tmp_path)
    try:
        model.pace(Load(clients=1, chunks=7))
        more = Load(clients=2, chunks=8, turns=1, stream=False)
        heard = Clients(tmp_path).run(more, model.port, _PATH, _BODY, "")
        assert (heard.turns, heard.failed) == (0, 2)
    finally:
        model.stop()


def test_the_table_shows_medians_and_what_ours_is_to_the_fifty_lines() -> None:
    results = Results()
    for rate in (90.0, 100.0, 400.0):
        heard = dataclasses.replace(_HEARD, turns_per_second=rate)
        results.add("turns", OURS, Reading(heard, 0.1, 50.0, 0.2))
    results.add("turns", FIFTY, Reading(_HEARD, 0.4, 50.0, 0.2))
    text = tables.write(results, [FIFTY, OURS], OURS, "today, here")
    assert "| turns a second, 16 clients | 50 | 100 | 2.00 x |" in text
    assert "| CPU of a turn, ms | 4.00 | 1.00 | 0.25 x |" in text


def test_growth_is_our_largest_figure_to_our_smallest() -> None:
    results = Results()
    for length, cpu_seconds in ((10, 0.1), (1000, 0.13)):
        for subject in (FIFTY, OURS):
            reading = Reading(_HEARD, cpu_seconds, 50.0, 0.2)
            results.add(f"history {length}", subject, reading)
    text = tables.write(results, [FIFTY, OURS], OURS, "today, here")
    assert f"| {OURS.name} | 1.00 | - | 1.30 | - | - | 1.30 x |" in text
    assert f"| {FIFTY.name} | 1.00 | - | 1.30 | - | - |  |" in text


def test_the_page_keeps_everything_but_its_tables() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    made = tables.with_speed(tables.with_speed(page, "| one |\n"), "| other |\n")
    assert "| one |" not in made
    begin, end = made.index("| other |"), made.index("<!-- end of speed -->")
    assert made[begin:end] == "| other |\n"
    assert made[end:] == page[page.index("<!-- end of speed -->") :]
