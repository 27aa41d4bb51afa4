"""OpenTelemetry's protocol, as far as it is needed here: spans and metrics as bytes. Pure.

Protocol: OTLP 1.x, protobuf (https://github.com/open-telemetry/opentelemetry-proto). The numbers are
those of the fields in its .proto files; the tests decode all of it with the official classes.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Value = str | bool | int | float
Attributes = Mapping[str, Value]
INTERNAL, SERVER, CLIENT = 1, 2, 3
_ERROR, _CUMULATIVE = 2, 2


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work; times in nanoseconds since 1970. `error`: why it failed, or ""."""

    name: str
    kind: int
    trace_id: bytes
    id: bytes
    parent_id: bytes
    begin_ns: int
    end_ns: int
    attributes: Attributes
    error: str = ""


class Metric(msgspec.Struct, frozen=True):
    """What is measured; without bounds it is a counter, else a histogram."""

    name: str
    unit: str
    bounds: tuple[float, ...] = ()


class Series(msgspec.Struct):
    """The values of a metric with the same attributes, since the process began."""

    count: int = 0
    sum: float = 0
    buckets: list[int] = msgspec.field(default_factory=list)

    def record(self, value: float, bounds: tuple[float, ...]) -> None:
        """Add a value; it belongs into the first bucket whose bound is not below it."""
        self.count += 1
        self.sum += value
        if bounds:
            self.buckets = self.buckets or [0] * (len(bounds) + 1)
            self.buckets[bisect_left(bounds, value)] += 1


class Sender(msgspec.Struct, frozen=True):
    """Who sends: attributes of the process, and the version of the conventions for names."""

    attributes: Attributes
    name: str
    version: str
    schema_url: str


def encode_spans(source: Sender, spans: Iterable[Span]) -> bytes:
    """An ExportTraceServiceRequest."""
    return _export(source, [_span(span) for span in spans])


def encode_metrics(
    source: Sender,
    series: Mapping[Metric, Mapping[frozenset[tuple[str, Value]], Series]],
    begin_ns: int,
    now_ns: int,
) -> bytes:
    """An ExportMetricsServiceRequest."""
    times = _number(2, "Q", begin_ns) + _number(3, "Q", now_ns)
    return _export(source, [_metric(each, points, times) for each, points in series.items()])


def _export(source: Sender, items: Iterable[bytes]) -> bytes:
    scope = _text(1, source.name) + _text(2, source.version)
    of_scope = _part(1, scope) + b"".join(_part(2, item) for item in items)
    of_resource = _part(1, _attributes(1, source.attributes)) + _part(2, of_scope)
    return _part(1, of_resource + _text(3, source.schema_url))


def _span(span: Span) -> bytes:
    return b"".join(
        [
            _part(1, span.trace_id),
            _part(2, span.id),
            _part(4, span.parent_id) if span.parent_id else b"",
            _text(5, span.name),
            _varint_field(6, span.kind),
            _number(7, "Q", span.begin_ns),
            _number(8, "Q", span.end_ns),
            _attributes(9, span.attributes),
            _part(15, _text(2, span.error) + _varint_field(3, _ERROR)) if span.error else b"",
        ]
    )


def _metric(
    metric: Metric, series: Mapping[frozenset[tuple[str, Value]], Series], times: bytes
) -> bytes:
    write = _histogram_point if metric.bounds else _sum_point
    points = b"".join(
        _part(1, times + write(metric, each, dict(key))) for key, each in series.items()
    )
    data = points + _varint_field(2, _CUMULATIVE)
    name = _text(1, metric.name) + _text(3, metric.unit)
    return name + (_part(9, data) if metric.bounds else _part(7, data + _varint_field(3, 1)))


def _sum_point(metric: Metric, series: Series, attributes: Attributes) -> bytes:
    return _number(6, "q", int(series.sum)) + _attributes(7, attributes)


def _histogram_point(metric: Metric, series: Series, attributes: Attributes) -> bytes:
    buckets = struct.pack(f"<{len(series.buckets)}Q", *series.buckets)
    bounds = struct.pack(f"<{len(metric.bounds)}d", *metric.bounds)
    total = _number(4, "Q", series.count) + _number(5, "d", series.sum)
    return total + _part(6, buckets) + _part(7, bounds) + _attributes(9, attributes)


def _attributes(number: int, attributes: Attributes) -> bytes:
    return b"".join(
        _part(number, _text(1, name) + _part(2, _value(value)))
        for name, value in attributes.items()
    )


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(1, value)
    if isinstance(value, bool):
        return _varint_field(2, value)
    return _varint_field(3, value) if isinstance(value, int) else _number(4, "d", value)


def _text(number: int, text: str) -> bytes:
    return _part(number, text.encode(errors="replace"))


def _part(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, kind: Literal["Q", "q", "d"], value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack(f"<{kind}", value)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; not negative."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
