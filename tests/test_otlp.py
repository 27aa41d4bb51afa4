"""OpenTelemetry's protocol: what is encoded here, the official classes decode."""

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chat.core.otlp import (
    CLIENT,
    Attributes,
    Metric,
    Sender,
    Series,
    Span,
    Value,
    encode_metrics,
    encode_spans,
)
from chat.turns.report import TurnReport, TurnTimes
from chat.web.access_log import RequestEntry
from chat.web.metrics import Metrics
from tests.collector import attributes

SOURCE = Sender({"service.name": "x"}, "chatkeep", "1", "https://schema")


@pytest.mark.parametrize("value", ["", "ä€😀", "\ud800", True, False, 0, 127, 128, 2**62, 0.5])
def test_every_kind_of_attribute_arrives(value: Value) -> None:
    given: Attributes = {"a": value}
    span = Span(
        name="n",
        kind=CLIENT,
        trace_id=b"t" * 16,
        id=b"i" * 8,
        parent_id=b"",
        begin_ns=1,
        end_ns=2**63,
        attributes=given,
        error="why",
    )
    [part] = ExportTraceServiceRequest.FromString(encode_spans(SOURCE, [span])).resource_spans
    assert part.schema_url == "https://schema" and attributes(part.resource) == SOURCE.attributes
    [scope] = part.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("chatkeep", "1")
    [found] = scope.spans
    assert attributes(found) == {"a": "?" if value == "\ud800" else value}
    assert (found.trace_id, found.span_id, found.parent_span_id) == (b"t" * 16, b"i" * 8, b"")
    assert (found.name, found.kind) == ("n", found.SPAN_KIND_CLIENT)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (1, 2**63)
    assert (found.status.code, found.status.message) == (found.status.STATUS_CODE_ERROR, "why")


def test_counters_and_histograms_are_cumulative_since_the_process_began() -> None:
    counter, histogram = Metric("c", "{x}"), Metric("h", "s", (1.0, 2.0))
    counted, measured = Series(), Series()
    for value in (1.0, 1.5, 2.0, 9.0):
        counted.record(1, counter.bounds)
        measured.record(value, histogram.bounds)
    key = frozenset({("k", "v")})
    data = encode_metrics(SOURCE, {counter: {key: counted}, histogram: {key: measured}}, 5, 9)
    [of_resource] = ExportMetricsServiceRequest.FromString(data).resource_metrics
    first, second = of_resource.scope_metrics[0].metrics
    assert (first.name, first.unit, first.sum.is_monotonic) == ("c", "{x}", True)
    [number] = first.sum.data_points
    assert (number.as_int, number.start_time_unix_nano, number.time_unix_nano) == (4, 5, 9)
    [point] = second.histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts)) == (4, 13.5, [1, 2, 1])
    assert list(point.explicit_bounds) == [1.0, 2.0] and attributes(point) == {"k": "v"}
    cumulative = first.sum.aggregation_temporality
    assert cumulative == second.histogram.aggregation_temporality == 2


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    metrics = Metrics()
    for number in range(600):
        times = TurnTimes(0, 1, answered_at=2, ended_at=3)
        report = TurnReport(f"m{number}", "", "completed", "", 1, 200, "", "", 3, 4, times)
        metrics.count(RequestEntry("", "POST", "", report=report))
    data = metrics.encode(SOURCE)
    [of_resource] = ExportMetricsServiceRequest.FromString(data).resource_metrics
    counted = {m.name: m for m in of_resource.scope_metrics[0].metrics}
    turns = counted["chatkeep.turns"].sum.data_points
    assert len(turns) == 501 and sum(point.as_int for point in turns) == 600
    [rest] = [point for point in turns if "otel.metric.overflow" in attributes(point)]
    assert rest.as_int == 100
