"""What was measured. Pure: readings in, medians out."""

from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from statistics import median

from bench.load import Heard
from bench.subjects import Subject


@dataclass(frozen=True)
class Reading:
    """One run of one subject; `other_core`: the share used of the core that all else runs on."""

    heard: Heard
    cpu_seconds: float
    resident_mib: float
    other_core: float

    @property
    def cpu_ms_per_turn(self) -> float:
        return self.cpu_seconds * 1000 / max(1, self.heard.turns)

    @property
    def cpu_us_per_chunk(self) -> float:
        return self.cpu_seconds * 1e6 / max(1, self.heard.chunks)


class Results:
    """All readings, by the name of the measure and of the subject."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, str], list[Reading]] = defaultdict(list)
        self._cold: dict[str, list[float]] = defaultdict(list)

    def add(self, measure: str, subject: Subject, reading: Reading) -> None:
        self._readings[measure, subject.name].append(reading)

    def add_cold(self, subject: Subject, seconds: float) -> None:
        self._cold[subject.name].append(seconds)

    def cold_seconds(self, subject: Subject) -> float | None:
        return median(self._cold[subject.name]) if self._cold[subject.name] else None

    def median(self, measure: str, subject: Subject, path: str) -> float | None:
        """`path` leads into a reading: `heard.turn_ms_p50`, `cpu_ms_per_turn`, ..."""
        # A subject that fails every turn is fast and cheap at it: it has no median.
        readings = [r for r in self._readings[measure, subject.name] if r.heard.turns]
        return median(map(attrgetter(path), readings)) if readings else None

    def spread(self, measure: str, subject: Subject, path: str) -> float:
        """The spread of the rounds, as a share of their median."""
        values = [attrgetter(path)(reading) for reading in self._readings[measure, subject.name]]
        return (max(values) - min(values)) / median(values) if values and median(values) else 0.0

    def failures(self) -> list[str]:
        """The measures in which turns failed, and how many."""
        return [
            f"{name}, {measure}: {failed} of {failed + sum(r.heard.turns for r in readings)} failed"
            for (measure, name), readings in self._readings.items()
            if (failed := sum(reading.heard.failed for reading in readings))
        ]

    def most_of_other_core(self, subject: Subject) -> float:
        """The highest load of the other core."""
        mine = [rows for (_, name), rows in self._readings.items() if name == subject.name]
        return max((reading.other_core for rows in mine for reading in rows), default=0.0)
