"""Providers of OpenTelemetry that send spans and metrics to a collector by OTLP over HTTP, each from a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lmprog.errors import UsageError
from lmprog.traces.delivery import KEPT, MetricDelivery, SpanDelivery
from lmprog.traces.measurements import Measurements
from lmprog.traces.otel_environment import address_of, disabled
from lmprog.traces.run_trace import Exporter, RunTrace
from lmprog.traces.telemetry import Spans

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

TIMEOUT = 5.0
"""Seconds in which a collector must take a batch, where the environment names no timeout."""
TRACES, METRICS = "/v1/traces", "/v1/metrics"
FORM = "must be the address of a collector, as http://127.0.0.1:4318"


class Collector:
    """An exporter that passes each run to several others; `close` is called at the end, and closes them."""

    def __init__(self, exporters: list[Exporter], close: Callable[[], None]) -> None:
        self._exporters, self.close = exporters, close

    def __call__(self, run: RunTrace) -> None:
        for export in self._exporters:
            export(run)


def collector_of_spec(settings: Mapping[str, Any]) -> Collector:
    """Return the exporter to the OTLP collector that a spec names; `settings` is its `export` block with the values of the
    environment filled in. It sends nothing where `OTEL_SDK_DISABLED` is set.

    Raises UsageError for an address that is none or has no place for metrics, and where OpenTelemetry is not installed.
    """
    if disabled():
        return Collector([], lambda: None)
    address = settings["otlp"]
    if not _is_address(address):
        raise UsageError(f"export: `otlp` {FORM}")
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    if settings["metrics"] and path and not path.endswith(TRACES):
        raise UsageError(f"export: `metrics` needs an address in `otlp` that has no path or ends in {TRACES}")
    traces = address if path else parts._replace(path=TRACES).geturl()
    metrics = parts._replace(path=path.removesuffix(TRACES) + METRICS).geturl() if settings["metrics"] else None
    return collector(traces, metrics, settings["headers"], settings["content"])


def collector_of_environment(traces: bool, metrics: bool, content: bool) -> Collector:
    """Return the exporter to the collector that the environment names, else one on this machine: of spans (`traces`),
    `metrics`, or both.

    With `content` prompts and replies are sent too; `OTEL_SDK_DISABLED` is not read here (but by `wanted`). Raises
    UsageError for an address that is none, and where OpenTelemetry is not installed.
    """
    found = [address_of(signal) if sent else None for signal, sent in (("TRACES", traces), ("METRICS", metrics))]
    for address in found:
        if address is not None and not _is_address(address):
            raise UsageError(f"OTEL_EXPORTER_OTLP_ENDPOINT {FORM}")
    return collector(found[0], found[1], content=content)


def collector(
    traces: str | None, metrics: str | None, headers: Mapping[str, str] | None = None, content: bool = False
) -> Collector:
    """Return the exporter that sends spans to the address `traces` (None: not sent), and metrics to the address
    `metrics` (None: not sent), with the HTTP headers `headers` (None: those of the environment).

    With `content` prompts and replies are sent too. Raises UsageError where OpenTelemetry is not installed.
    """
    try:
        found = []
        if traces is not None:
            found.append(_spans(traces, headers, content))
        if metrics is not None:
            found.append(_metrics(metrics, headers))
    except ImportError as error:
        raise UsageError(f"export over OTLP needs OpenTelemetry ({error}): pip install 'lmprog[otel]'") from None

    def close() -> None:
        for _, end in found:
            end()

    return Collector([export for export, _ in found], close)


def _spans(address: str, headers: Mapping[str, str] | None, content: bool) -> tuple[Exporter, Callable[[], None]]:
    """Return the exporter of spans to an address, with prompts and replies if `content`, and the function that sends what
    waits and closes it. `headers` None: those of the environment. Raises ImportError where OpenTelemetry is not installed."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(address, headers=headers, timeout=_timeout("TRACES"))
    delivery = SpanDelivery(exporter, place_of(address))
    provider: TracerProvider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(delivery, max_queue_size=KEPT))

    def close() -> None:
        delivery.begin_end()
        provider.shutdown()

    return Spans(provider, content), close


def _metrics(address: str, headers: Mapping[str, str] | None) -> tuple[Exporter, Callable[[], None]]:
    """Return the exporter of metrics to an address, and the function that sends what waits and closes it. `headers` None:
    those of the environment. Raises ImportError where OpenTelemetry is not installed."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(address, headers=headers, timeout=_timeout("METRICS"))
    delivery = MetricDelivery(exporter, place_of(address))
    reader = PeriodicExportingMetricReader(delivery)
    provider: MeterProvider = MeterProvider([reader], resource=_resource(), shutdown_on_exit=False)
    return Measurements(provider), provider.shutdown


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # an open bracket, as in http://[::1
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def place_of(address: str) -> str:
    """Return the scheme, host and port of an address, for messages: a user name before an @, and the query, may be secret."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _timeout(signal: str) -> float | None:
    """Return the seconds that a request for a signal (TRACES, METRICS) may take; None where the environment names a timeout,
    which the SDK reads itself."""
    named = (f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in named) else TIMEOUT


def _resource() -> Resource:
    """Return the attributes of this process, those of the environment among them; its service is `lmprog` unless named."""
    from opentelemetry.sdk.resources import Resource

    found = Resource.create()
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": "lmprog"}))
    return found
