"""OpenTelemetry: one trace per turn, and metrics, to a collector over OTLP/HTTP.

Imported only when OTEL_EXPORTER_OTLP_ENDPOINT is set. There is no CPU once a request is over, so
nothing is exported in the background: a turn's spans are made of its report when it has ended, and
sent before the last bytes of its answer. Metrics go with them, at most every ten seconds, and once
more when the process ends. A collector that fails is left alone for a while: no turn waits for it.

Names: semantic conventions 1.37.0, with those for GenAI. No content of any message.
"""

import atexit
import logging
import re
import secrets
import threading
import time
import uuid
from urllib.parse import unquote

import urllib3

from chat.core.otlp import CLIENT, INTERNAL, SERVER, Attributes, Sender, Span, Value, encode_spans
from chat.settings import VERSION, Settings
from chat.turns.report import TurnReport
from chat.web.access_log import RequestEntry
from chat.web.metrics import Metrics

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_EXPORT_SECONDS = 2.0
_METRICS_SECONDS = 10.0  # Cloud Monitoring takes a point of a series every five
_PAUSE_SECONDS = 30.0
log = logging.getLogger("chatkeep")


class Telemetry:
    """Observes requests that have ended."""

    def __init__(self, settings: Settings) -> None:
        self._collector = _Collector(
            settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_headers
        )
        self._sender = Sender(_resource(settings), "chatkeep", VERSION, SCHEMA)
        self._metrics = Metrics()
        self._lock = threading.Lock()
        self._metrics_due_at = 0.0
        atexit.register(self._send_metrics)

    def observe(self, entry: RequestEntry) -> None:
        """A turn has ended, or a request is answered with an error; never raises."""
        try:
            self._metrics.count(entry)
            if entry.stream is None:
                return  # an error is only counted: it is not worth a round trip
            if spans := _make_spans(entry):
                self._collector.send("/v1/traces", encode_spans(self._sender, spans))
            if self._metrics_are_due():
                self._send_metrics()
        except Exception:  # whatever is wrong with it, chats go on
            log.exception("no telemetry")

    def _metrics_are_due(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._metrics_due_at:
                return False
            self._metrics_due_at = now + _METRICS_SECONDS
            return True

    def _send_metrics(self) -> None:
        self._collector.send("/v1/metrics", self._metrics.encode(self._sender))


class _Collector:
    """Where spans and metrics go; after a failure, nothing does for a while."""

    def __init__(self, url: str, headers: str) -> None:
        self._url = url.rstrip("/")
        given = (pair.partition("=")[::2] for pair in headers.split(",") if "=" in pair)
        self._headers = {name.strip(): unquote(value.strip()) for name, value in given}
        self._headers["Content-Type"] = "application/x-protobuf"
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=_EXPORT_SECONDS)
        self._paused_until = 0.0

    def send(self, path: str, body: bytes) -> None:
        """In this thread; a failure is logged, and no error."""
        if time.monotonic() < self._paused_until:
            return
        try:
            status = self._pool.request(
                "POST", self._url + path, body, headers=self._headers
            ).status
            failure = "" if status < 300 else f"answered {status}"
        except urllib3.exceptions.HTTPError as error:
            failure = f"could not be reached ({type(error).__name__})"
        if failure:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            log.warning("the collector %s; nothing is sent for %g s", failure, _PAUSE_SECONDS)


def _make_spans(entry: RequestEntry) -> list[Span]:
    """The turn, and its steps: begin, upstream, commit. none if the caller does not sample."""
    now, now_ns = time.monotonic(), time.time_ns()
    parent = _TRACEPARENT.fullmatch(entry.traceparent)
    if parent and not int(parent[3], 16) & 1:
        return []
    trace_id = bytes.fromhex(parent[1]) if parent else secrets.token_bytes(16)
    entry.trace = entry.trace or trace_id.hex()
    turn_id = secrets.token_bytes(8)

    def span(
        name: str, kind: int, begin: float, end: float, attributes: Attributes, error: str = ""
    ) -> Span:
        is_turn = name == "turn"
        above = bytes.fromhex(parent[2]) if parent else b""
        return Span(
            name=name,
            kind=kind,
            trace_id=trace_id,
            id=turn_id if is_turn else secrets.token_bytes(8),
            parent_id=above if is_turn else turn_id,
            begin_ns=now_ns - int((now - begin) * 1e9),
            end_ns=now_ns - int((now - end) * 1e9),
            attributes=attributes,
            error=error,
        )

    turn = span("turn", SERVER, entry.began, now, _describe(entry), entry.code)
    if entry.report is None:
        return [turn, span("begin", INTERNAL, entry.began, now, {}, entry.code)]
    report, times = entry.report, entry.report.times
    answered, ended = times.answered_at or now, times.ended_at or now
    facts = _describe_call(entry, report)
    return [
        turn,
        span("begin", INTERNAL, times.began_at, times.called_at, {}),
        span("upstream", CLIENT, times.called_at, answered, facts, report.code),
        span("commit", INTERNAL, answered, ended, {}),
    ]


def _resource(settings: Settings) -> Attributes:
    facts = {
        "service.name": settings.k_service or "chatkeep",
        "service.version": VERSION,
        "service.instance.id": str(uuid.uuid4()),
        "faas.version": settings.k_revision,
    }
    return {name: value for name, value in facts.items() if value}


def _describe(entry: RequestEntry) -> Attributes:
    facts: dict[str, Value] = {
        "http.request.method": entry.method,
        "http.route": entry.route,
        "gen_ai.conversation.id": entry.chat,
        "chatkeep.turn.id": entry.turn,
        "chatkeep.ending": entry.report.ending if entry.report else "",
        "chatkeep.request.id": entry.request_id,
        "chatkeep.stream": bool(entry.stream),
        "error.type": entry.code,
    }
    return {name: value for name, value in facts.items() if value != ""}


def _describe_call(entry: RequestEntry, report: TurnReport) -> Attributes:
    facts: dict[str, Value] = {
        "gen_ai.conversation.id": entry.chat,
        "gen_ai.usage.input_tokens": report.tokens_in,
        "gen_ai.usage.output_tokens": report.tokens_out,
        "http.request.resend_count": max(0, report.attempts - 1),
        "http.response.status_code": report.upstream_status,
        "chatkeep.upstream.request.id": report.upstream_request_id,
        "chatkeep.upstream.failure": report.upstream_failure,
        "error.type": report.code,
    }
    common: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": report.provider,
        "gen_ai.request.model": report.model,
    }
    return common | {name: value for name, value in facts.items() if value}
