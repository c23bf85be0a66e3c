"""The delivery of spans and metrics to a collector: failures are told in our words, and what was not taken is sent again."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lmprog.traces.run_trace import warn

PAUSE = 30.0
"""Seconds for which a collector that failed is sent nothing; what comes meanwhile is kept."""
LATER = (429, 502, 503, 504)
"""Statuses after which OTLP wants the same batch sent again; after others it is lost, and the next one is tried."""
KEPT = 65536
"""Spans that are kept for a collector that takes none; the oldest are lost first."""
BOUND = 10.0
"""Seconds at the end of a process in which what waits is still sent."""
_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
)


class SpanDelivery:
    """A span exporter that keeps the batches which the collector did not accept, sends them again, and counts those lost."""

    def __init__(self, exporter: Any, place: str) -> None:
        self._exporter, self._place = exporter, place
        self._waiting: deque[Sequence[Any]] = deque()
        """Batches that are to be sent, the oldest first."""
        self._resume, self._end = 0.0, float("inf")
        self._warned = False
        self._cause = ""
        self._spans = self._delivered = 0
        self._process = os.getpid()

    def export(self, spans: Sequence[Any]) -> Any:
        """Send the spans, after those that are kept from before; keep what is not accepted. Called in the thread of the
        SDK's processor.
        """
        from opentelemetry.sdk.trace.export import SpanExportResult

        if os.getpid() != self._process:
            # A fork: what waits belongs to the parent.
            self._waiting.clear()
            self._spans, self._delivered, self._process = 0, 0, os.getpid()
        self._spans += len(spans)
        self._waiting.append(spans)
        while sum(map(len, self._waiting)) > KEPT:
            self._waiting.popleft()
        if time.monotonic() >= self._resume:
            self._send()
        return SpanExportResult.SUCCESS

    def begin_end(self) -> None:
        """Prepare for the end of the process: the kept batches are sent once more, within BOUND (10) seconds."""
        self._end, self._resume = time.monotonic() + BOUND, 0.0

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def shutdown(self) -> None:
        """Send the kept batches a last time, and report the number of spans that are lost."""
        if os.getpid() == self._process:
            if time.monotonic() >= self._resume:
                self._send()
            lost = self._spans - self._delivered
            if lost:
                warn(
                    f"{lost} of {self._spans} spans could not be delivered to the collector at {self._place}{self._cause}"
                )
        self._exporter.shutdown()

    def _send(self) -> None:
        """Send the waiting batches. Pause at the first that is to be sent again later; what is refused for good is lost."""
        while self._waiting and time.monotonic() < self._end:
            spans = self._waiting[0]
            ending = self._end < float("inf")
            tried = attempt(partial(self._exporter.export, spans))
            if not tried.later:
                self._waiting.popleft()
            elif ending or self._end == float("inf"):
                # What failed while the process came to its end is tried once more.
                self._resume = time.monotonic() + PAUSE
            if tried.taken:
                self._delivered += len(spans)
                continue
            self._cause = tried.cause
            if not self._warned and self._end == float("inf"):
                warn(f"the collector at {self._place} takes no traces{tried.cause}; the runs go on")
                self._warned = True
            if tried.later:
                return


class MetricDelivery:
    """A metric exporter that reports its first failure. Metrics are sums, so that what it could not send is in the next
    ones.
    """

    def __init__(self, exporter: Any, place: str) -> None:
        self._exporter, self._place = exporter, place
        self._warned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exporter, name)

    def export(self, metrics: Any, timeout_millis: float = 10_000, **more: Any) -> Any:
        """Send OpenTelemetry's `metrics` within `timeout_millis`, as its interface MetricExporter has it; `more` is passed on.

        Returns SUCCESS or FAILURE and raises nothing. The first failure in this process is printed.
        """
        from opentelemetry.sdk.metrics.export import MetricExportResult

        tried = attempt(partial(self._exporter.export, metrics, timeout_millis=timeout_millis, **more))
        if not tried.taken and not self._warned:
            warn(f"the collector at {self._place} takes no metrics{tried.cause}; the runs go on without")
            self._warned = True
        return MetricExportResult.SUCCESS if tried.taken else MetricExportResult.FAILURE


@dataclass(frozen=True)
class Attempt:
    """The outcome of sending a batch: accepted (`taken`), to be sent again (`later`), or neither, and the cause in brackets."""

    taken: bool
    later: bool = False
    cause: str = ""


def attempt(export: Callable[[], Any]) -> Attempt:
    """Call `export`, an exporter of the SDK, and return the outcome; the SDK's own log messages are not shown."""
    for name in _LOGGERS:
        if _shown not in (logger := logging.getLogger(name)).filters:
            logger.addFilter(_shown)
    _ours.status, _ours.error, _ours.exporting = None, "", True
    try:
        taken = export().name == "SUCCESS"
    except Exception as error:
        return Attempt(False, cause=f" ({type(error).__name__})")
    finally:
        _ours.exporting = False
    status = _ours.status
    if taken or status is None:
        return Attempt(taken, not taken, _ours.error)
    return Attempt(False, status in LATER, f" (it answers {status})")


_ours = threading.local()


def _shown(record: logging.LogRecord) -> bool:
    """Keep the log records of other exporters in the process; of ours the status or the kind of error is taken."""
    if not getattr(_ours, "exporting", False):
        return True
    given = record.args if isinstance(record.args, tuple) else ()
    for part in given:
        if isinstance(part, int) and 300 <= part < 600:
            _ours.status = part
        elif isinstance(part, Exception):
            _ours.error = f" ({type(part).__name__})"
    return False
