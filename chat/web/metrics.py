"""What is counted and measured of turns and errors, since the process began; see telemetry.py."""

import threading
import time

from chat.core.otlp import Attributes, Metric, Sender, Series, Value, encode_metrics
from chat.turns.report import TurnReport
from chat.web.access_log import RequestEntry

_MAX_SERIES = 500  # of a metric: models have whatever name a client gives them
_OVERFLOW = frozenset({("otel.metric.overflow", True)})
_SECONDS = tuple(0.001 * 2**n for n in range(18))  # 1 ms to 131 s
_TOKENS = tuple(4.0**n for n in range(14))
_TURNS = Metric("chatkeep.turns", "{turn}")
_ERRORS = Metric("chatkeep.errors", "{error}")
_USED = Metric("gen_ai.client.token.usage", "{token}", _TOKENS)
_UPSTREAM = Metric("gen_ai.client.operation.duration", "s", _SECONDS)
_FIRST_TOKEN = Metric("gen_ai.server.time_to_first_token", "s", _SECONDS)
_STORE = Metric("chatkeep.store.duration", "s", _SECONDS)


class Metrics:
    """Counters and histograms; any thread may count."""

    def __init__(self) -> None:
        self._began_ns = time.time_ns()
        self._lock = threading.Lock()
        self._series: dict[Metric, dict[frozenset[tuple[str, Value]], Series]] = {}

    def count(self, entry: RequestEntry) -> None:
        """Count a turn or an error."""
        with self._lock:
            if entry.code:
                self._record(_ERRORS, 1, {"error.type": entry.code, "http.route": entry.route})
            if entry.report:
                self._count_turn(entry.report)

    def encode(self, source: Sender) -> bytes:
        """All of them, for a collector."""
        with self._lock:
            return encode_metrics(source, self._series, self._began_ns, time.time_ns())

    def _count_turn(self, report: TurnReport) -> None:
        times = report.times
        model: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": report.provider,
            "gen_ai.request.model": report.model,
        }
        failed = {"error.type": report.code} if report.code else {}
        self._record(_TURNS, 1, {"chatkeep.ending": report.ending, **model})
        self._record(_USED, report.tokens_in, {"gen_ai.token.type": "input", **model})
        self._record(_USED, report.tokens_out, {"gen_ai.token.type": "output", **model})
        self._record(_UPSTREAM, times.answered_at - times.called_at, {**failed, **model})
        if times.first_text_at:
            self._record(_FIRST_TOKEN, times.first_text_at - times.called_at, model)
        self._record(_STORE, times.called_at - times.began_at, {"chatkeep.step": "begin"})
        self._record(_STORE, times.ended_at - times.answered_at, {"chatkeep.step": "commit"})

    def _record(self, metric: Metric, value: float, attributes: Attributes) -> None:
        series = self._series.setdefault(metric, {})
        key = frozenset(attributes.items())
        if key not in series and len(series) >= _MAX_SERIES:
            key = _OVERFLOW
        series.setdefault(key, Series()).record(value, metric.bounds)
