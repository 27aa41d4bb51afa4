"""What was measured as tables of Markdown. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measures import CROWD, CROWDED, HISTORIES, STEADY, STREAMS, WAVE
from bench.results import Results
from bench.subjects import FIFTY, HELLO, MODEL, OURS, Subject

_BEGIN, _END = "<!-- speed: written by make bench -->\n", "<!-- end of speed -->"
_NOTHING = "-"

Value = Callable[[Subject], float | None]


@dataclass(frozen=True)
class Row:
    """One measure: what each subject's cell shows, and whom ours is compared with by which value."""

    name: str
    cell: Callable[[Subject], str]
    value: Value
    against: Subject | None = None


def write(results: Results, subjects: Sequence[Subject], bounded: Subject, where: str) -> str:
    """All tables, and how they came about."""
    growing = [s for s in subjects if s.preload]
    parts = [
        _main_table(results, subjects),
        _chunk_table(results, growing),
        _history_table(results, [*growing, bounded]),
        _caption(results, subjects, where),
    ]
    return "\n".join(parts)


def with_speed(page: str, text: str) -> str:
    """The page with its tables replaced."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"The page has no {_BEGIN.strip()} ... {_END}")
    return before + begin + text + end + after


def _main_table(results: Results, subjects: Sequence[Subject]) -> str:
    rows = [
        _single(
            results, "turns a second, 16 clients", "turns", "heard.turns_per_second", "{:,.0f}"
        ),
        _single(results, "CPU of a turn, ms", "turns", "cpu_ms_per_turn", "{:.2f}"),
        _single(
            results, "most streamed chunks a second", "flood", "heard.chunks_per_second", "{:,.0f}"
        ),
        _single(results, "CPU of a chunk then, µs", "flood", "cpu_us_per_chunk", "{:.0f}"),
        *_stream_rows(results),
        _single(results, "memory after them, MiB", "crowd", "resident_mib", "{:.0f}"),
        _cold(results),
    ]
    head = ["one instance on one core", *(s.name for s in subjects), f"{OURS.name} to the 50 lines"]
    lines = [[row.name, *map(row.cell, subjects), _ratio(row)] for row in rows]
    return _table(head, [line for line in lines if set(line[1:-1]) != {_NOTHING}])


def _stream_rows(results: Results) -> list[Row]:
    one, whole = f"{WAVE.pause_ms:.0f}", f"{WAVE.ideal_ms:,.0f}"
    together = "200 streams that begin together"
    apart = f"200 streams, one begins every {STEADY.spread_ms / STEADY.clients:.1f} ms"
    crowd = f"{CROWD:,} streams that begin together"
    return [
        _pair(
            results,
            f"50 streams that begin together: first chunk, ms [{one}]",
            "streams 50",
            "first",
        ),
        _pair(results, f"{together}: first chunk, ms [{one}]", "streams 200", "first"),
        _pair(results, f"{together}: whole answer, ms [{whole}]", "streams 200", "turn"),
        _pair(results, f"{apart}: first chunk, ms [{one}]", "steady", "first"),
        _pair(results, f"{apart}: whole answer, ms [{whole}]", "steady", "turn"),
        _pair(results, f"{crowd}: whole answer, ms [{CROWDED.ideal_ms:,.0f}]", "crowd", "turn"),
    ]


def _single(results: Results, name: str, measure: str, path: str, form: str) -> Row:
    def value(subject: Subject) -> float | None:
        return results.median(measure, subject, path)

    return Row(name, lambda subject: _shown(value(subject), form), value, FIFTY)


def _pair(results: Results, name: str, measure: str, what: str) -> Row:
    """Median and 99th percentile."""

    def value(subject: Subject, of: str = "p50") -> float | None:
        return results.median(measure, subject, f"heard.{what}_ms_{of}")

    def cell(subject: Subject) -> str:
        both = [_shown(value(subject, of), "{:,.0f}") for of in ("p50", "p99")]
        return _NOTHING if _NOTHING in both else " / ".join(both)

    return Row(name, cell, value, FIFTY)


def _cold(results: Results) -> Row:
    def cell(subject: Subject) -> str:
        return _shown(results.cold_seconds(subject), "{:.2f}")

    return Row("cold start to the first answer, s", cell, results.cold_seconds, HELLO)


def _chunk_table(results: Results, subjects: Sequence[Subject]) -> str:
    measures = [*(f"streams {count}" for count in STREAMS), "crowd"]
    head = ["CPU of a streamed chunk, µs", *map(_streams, STREAMS), _streams(CROWD)]
    return _growth(results, head, subjects, measures, "cpu_us_per_chunk", "{:.0f}")


def _history_table(results: Results, subjects: Sequence[Subject]) -> str:
    measures = [f"history {length}" for length in HISTORIES]
    head = ["CPU of a turn, ms", *(f"{length:,} messages" for length in HISTORIES)]
    return _growth(results, head, subjects, measures, "cpu_ms_per_turn", "{:.2f}")


def _growth(
    results: Results,
    head: list[str],
    subjects: Sequence[Subject],
    measures: list[str],
    path: str,
    form: str,
) -> str:
    def cells(subject: Subject) -> list[str]:
        values = [results.median(measure, subject, path) for measure in measures]
        growth = "" if subject is FIFTY else _largest_to_smallest(values)
        return [*(_shown(value, form) for value in values), growth]

    rows = [[subject.name, *cells(subject)] for subject in subjects]
    return _table([*head, "largest to smallest"], rows)


def _largest_to_smallest(values: list[float | None]) -> str:
    there = [value for value in values if value]
    return f"{max(there) / min(there):.2f} x" if len(there) > 1 else _NOTHING


def _caption(results: Results, subjects: Sequence[Subject], where: str) -> str:
    spread = results.spread("turns", OURS, "heard.turns_per_second")
    busy = max([results.most_of_other_core(s) for s in subjects if s is not MODEL], default=0.0)
    lines = [
        f"(`make bench`, {where}. Medians of rounds in which everybody takes turns;",
        f"of {OURS.name}'s turns a second, they lie {spread:.0%} apart. a / b: median and 99th",
        "percentile; [what nothing delays would take]. Streams that begin together do so in the same",
        "moment: the last one also waits for all the other begins. Where one begins after the other,",
        f"spread over the length of an answer, each client says {STEADY.turns} turns: as one ends, one begins.",
        f"A chunk's CPU holds its share of the turn's. {CROWD:,} streams: one run, THREADS={CROWD + 100}.",
        "A turn costs more as its prompt grows, until it is full: at 10 messages if 300 tokens fit, at some",
        "3,400 with the default of 100,000.",
        "What talks to the subjects can do as much as the model's own column says; it, the model and",
        f"Redis used at most {busy:.0%} of the other core.)",
    ]
    return "\n".join([*lines, *(f"{failure}." for failure in results.failures())]) + "\n"


def _ratio(row: Row) -> str:
    ours, theirs = row.value(OURS), row.value(row.against) if row.against else None
    if not (row.against and ours and theirs):
        return ""
    whom = "" if row.against is FIFTY else f" {row.against.name}"
    return f"{ours / theirs:.2f} x{whom}"


def _streams(count: int) -> str:
    return f"{count:,} stream{'s' if count > 1 else ''}"


def _shown(value: float | None, form: str) -> str:
    return form.format(value) if value else _NOTHING


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
