"""What is measured and in which order: each round visits all subjects, every second one backwards."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.load import Clients, Load, Model
from bench.results import Reading, Results
from bench.server import Cores, Server, cpu_seconds
from bench.subjects import Subject

_T = TypeVar("_T")

STREAMS = (1, 50, 200)
CROWD = 1000
HISTORIES = (10, 100, 1000, 10_000, 100_000)
_STEPS = (60, 125, 250, 500, 1000)
_STILL_GROWING = 1.05
_TURNS_OF_A_HISTORY = 100

TURNS = Load(clients=16, chunks=8, stream=False)
WAVE = Load(clients=0, chunks=64, turns=1, pause_ms=20)
# A stream begins when another ends: 200 at a time as in WAVE, but without 200 that begin at once.
STEADY = replace(WAVE, clients=200, turns=4, spread_ms=WAVE.ideal_ms)
FLOOD = Load(clients=0, chunks=64, pause_ms=5)
CROWDED = Load(clients=CROWD, chunks=64, turns=1, pause_ms=80)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 2.0
    cold_starts: int = 5
    streams: tuple[int, ...] = STREAMS
    crowd: bool = True
    histories: tuple[int, ...] = HISTORIES
    history_rounds: int = 7


QUICK = Plan(
    rounds=1,
    seconds=0.8,
    cold_starts=1,
    streams=(50, 200),
    crowd=False,
    histories=(10, 10_000),
    history_rounds=1,
)


class Bench:
    """Starts the subjects, runs the loads against them, and keeps the readings."""

    def __init__(self, folder: Path, cores: Cores, plan: Plan) -> None:
        self.results = Results()
        self._model, self._clients = Model(folder), Clients(folder)
        self._folder, self._cores, self._plan = folder, cores, plan
        self._servers: dict[str, Server] = {}
        self._runs = itertools.count()
        self._best: dict[str, int] = {}

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._model.stop()

    def start(self, subjects: Sequence[Subject]) -> None:
        """Measure cold starts; the last instance of each subject keeps running."""
        for subject in subjects:
            self._server(subject)  # not counted: the first start may have to compile bytecode
        for number in range(self._plan.cold_starts):
            for subject in _order(subjects, number):
                server = self._server(subject)
                server.stop()
                server.start()
                if not subject.is_the_model:
                    self.results.add_cold(subject, server.cold_seconds)

    def turns(self, subjects: Sequence[Subject]) -> None:
        """Unstreamed turns, as many per second as possible."""
        load = replace(TURNS, seconds=self._plan.seconds)
        self._in_rounds(subjects, partial(self._measure, "turns", load))

    def streams(self, subjects: Sequence[Subject]) -> None:
        """Streams that all begin at the same moment."""
        for count in self._plan.streams:
            load = replace(WAVE, clients=count, turns=2 if count == 1 else 1)
            self._warm(subjects, load)
            self._in_rounds(
                [s for s in subjects if s.most_streams >= count],
                partial(self._measure, f"streams {count}", load),
            )

    def steady(self, subjects: Sequence[Subject]) -> None:
        """The same number of streams, begun one after the other."""
        self._in_rounds(
            [s for s in subjects if s.most_streams >= STEADY.clients],
            partial(self._measure, "steady", STEADY),
        )

    def floods(self, subjects: Sequence[Subject]) -> None:
        """More and more streams, until the rate of chunks no longer grows."""
        self._in_rounds([s for s in subjects if s.most_streams], self._flood)

    def histories(self, subjects: Sequence[Subject]) -> None:
        """One client in chats of each length; lengths alternate as well, since they are compared."""
        runs = [
            (length, subject)
            for length in self._plan.histories
            for subject in subjects
            if subject.preload and subject.most_history >= length
        ]
        for length, subject in runs:
            self._preload(length, subject)
        for number in range(self._plan.history_rounds):
            for length, subject in _order(runs, number):
                self._history(length, subject)

    def crowds(self, subjects: Sequence[Subject]) -> None:
        """A thousand streams on a fresh instance; with a thread for each if the subject needs it."""
        for subject in subjects:
            if subject.most_streams < CROWD or not self._plan.crowd:
                continue
            threads = {"THREADS": str(CROWD + 100)}
            crowded = replace(
                subject,
                name=f"{subject.name}, crowded",
                environment={**subject.environment, **threads},
            )
            self._measure("crowd", CROWDED, subject, server=self._server(crowded))
            self._servers.pop(crowded.name).close()

    def _in_rounds(self, subjects: Sequence[Subject], measure: Callable[[Subject], object]) -> None:
        for number in range(self._plan.rounds):
            for subject in _order(subjects, number):
                measure(subject)

    def _warm(self, subjects: Sequence[Subject], load: Load) -> None:
        """Warm up: make the threads and open the connections that a load needs."""
        for subject in subjects:
            self._run(self._server(subject), replace(load, chunks=8, pause_ms=5))

    def _flood(self, subject: Subject) -> None:
        """The first round finds the best number of streams, later rounds use it."""
        best = self._flood_with(subject, self._best.get(subject.name, _STEPS[0]))
        if subject.name not in self._best:
            for count in (step for step in _STEPS[1:] if step <= subject.most_streams):
                more = self._flood_with(subject, count)
                if more.heard.chunks_per_second < best.heard.chunks_per_second * _STILL_GROWING:
                    break
                best, self._best[subject.name] = more, count
            self._best.setdefault(subject.name, _STEPS[0])
        self.results.add("flood", subject, best)

    def _flood_with(self, subject: Subject, count: int) -> Reading:
        load = replace(FLOOD, clients=count, seconds=self._plan.seconds)
        return self._run(self._server(subject), load)

    def _preload(self, length: int, subject: Subject) -> None:
        redis = self._server(subject).redis
        assert redis and subject.preload
        for number in range(_chats_of(length)):
            subject.preload(redis.client(), f"long-{length}-{number}", length)
        # The first turn of a chat finds where its prompt begins, and stores that place.
        once = replace(_history_load(length), turns=_chats_of(length), turns_of_a_chat=1)
        self._run(self._server(subject), once, f"long-{length}-CHAT")

    def _history(self, length: int, subject: Subject) -> None:
        reading = self._run(self._server(subject), _history_load(length), f"long-{length}-CHAT")
        self.results.add(f"history {length}", subject, reading)

    def _measure(
        self, name: str, load: Load, subject: Subject, *, server: Server | None = None
    ) -> None:
        self.results.add(name, subject, self._run(server or self._server(subject), load))

    def _run(self, server: Server, load: Load, chat: str = "") -> Reading:
        subject = server.subject
        beside = [self._model.pid, *([server.redis.pid] if server.redis else [])]
        path = subject.path.replace("CHAT", chat or f"r{next(self._runs)}-CHAT")
        self._model.pace(load)
        used, used_beside = server.cpu_seconds(), sum(map(cpu_seconds, beside))
        began = time.monotonic()
        body, headers = subject.body_of(stream=load.stream), server.fill(subject.headers)
        heard = self._clients.run(load, server.port, path, body, headers)
        used_beside = sum(map(cpu_seconds, beside)) - used_beside + heard.cpu_seconds
        span = time.monotonic() - began
        return Reading(
            heard, server.cpu_seconds() - used, server.resident_mib(), used_beside / span
        )

    def _server(self, subject: Subject) -> Server:
        if subject.name not in self._servers:
            server = Server(subject, self._model, self._cores, self._folder / subject.name)
            self._servers[subject.name] = server
            self._model.pace(TURNS)
            server.start()
        return self._servers[subject.name]


def _order(things: Sequence[_T], number: int) -> Sequence[_T]:
    return things if number % 2 == 0 else things[::-1]


def _chats_of(length: int) -> int:
    """Enough chats that a round makes none of them much longer."""
    return max(1, min(_TURNS_OF_A_HISTORY, 10_000 // length))


def _history_load(length: int) -> Load:
    turns = _TURNS_OF_A_HISTORY
    per_chat = turns // _chats_of(length)
    return Load(1, 8, turns=turns, seconds=1.0, stream=False, turns_of_a_chat=per_chat)
