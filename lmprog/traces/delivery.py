"""The delivery of spans and metrics to a collector: failures are reported in lmprog's words, and spans that it did not
accept are sent again."""

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
"""Seconds for which a collector that failed is sent nothing; spans that come meanwhile are kept."""
LATER = (429, 502, 503, 504)
"""HTTP statuses after which OTLP wants the same batch sent again; after others it is lost, and the next one is tried."""
KEPT = 65536
"""Spans that are kept for a collector that takes none; the oldest are lost first."""
BOUND = 10.0
"""Seconds at the end of a process in which waiting spans are still sent."""
_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
)


class SpanDelivery:
    """A span exporter of OpenTelemetry's SDK that keeps the batches which the collector did not accept, sends them again,
    and counts the spans lost. `exporter` is the SDK's own, which sends, and `place` names the collector in messages."""

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
        """Send the spans, after those that are kept from before, and keep what is not accepted; the oldest beyond KEPT
        (65,536) are lost. The result is always SUCCESS. Called in the thread of the SDK's processor."""
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
        """Prepare for the end of the process: `export` and `shutdown` then send the kept batches at once, for at most BOUND
        (10) seconds from now."""
        self._end, self._resume = time.monotonic() + BOUND, 0.0

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def shutdown(self) -> None:
        """Send the kept batches a last time, print how many spans are lost, if any, and close the exporter. After a fork
        only close it."""
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
        """Send the waiting batches, the oldest first, until one is to be sent again later; one that is refused for good is
        lost. The first failure in this process is printed."""
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
    """A metric exporter of OpenTelemetry's SDK that reports its first failure. Metrics are sums, so that what it could not
    send is in the next ones. `exporter` is the SDK's own, whose other attributes it has, and `place` names the collector."""

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
    """The outcome of sending a batch: accepted (`taken`), to be sent again (`later`), or neither, since it is refused for
    good; `cause` is the reason as ` (...)` for the end of a message, empty where none is known."""

    taken: bool
    later: bool = False
    cause: str = ""


def attempt(export: Callable[[], Any]) -> Attempt:
    """Call `export`, which sends one batch by an exporter of the SDK, and return the outcome; an exception counts as
    refused for good, and the SDK's own log messages are not shown."""
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
    """Return whether a log record of the SDK is shown: True outside of `attempt`; inside False, and the HTTP status or the
    kind of error in the record is noted for the outcome."""
    if not getattr(_ours, "exporting", False):
        return True
    given = record.args if isinstance(record.args, tuple) else ()
    for part in given:
        if isinstance(part, int) and 300 <= part < 600:
            _ours.status = part
        elif isinstance(part, Exception):
            _ours.error = f" ({type(part).__name__})"
    return False
