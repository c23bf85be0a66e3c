"""`GET /metrics`: the counts of a server's requests, runs, LM calls, tokens and dollars, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lmprog.traces.record import Invocation, Record

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""The upper bounds of the histogram's buckets for the seconds of requests."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the text format."""


class ServerMetrics:
    """Counters of one server for Prometheus: requests by path and status, runs in progress (`running`), and by module LM
    calls, tokens and dollars."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "lmprog_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "lmprog_request_seconds", "Seconds of a request.", ["path"], buckets=SECONDS, registry=registry
        )
        self.running = Gauge("lmprog_runs_in_flight", "Runs of the program at work.", registry=registry)
        self._calls = Counter("lmprog_lm_calls", "LM calls.", ["module", "failed"], registry=registry)
        self._tokens = Counter("lmprog_tokens", "Tokens of LM calls.", ["module", "kind"], registry=registry)
        self._usd = Counter("lmprog_usd", "US dollars of LM calls whose price is known.", ["module"], registry=registry)

    def answered(self, path: str, status: str, seconds: float) -> None:
        """Count a request to `path` (one of the server's own paths, or `other`) with its HTTP status (`-`: none was sent)
        and the seconds that it took."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def ran(self, records: Sequence[Record]) -> None:
        """Count the LM calls among the records of a run."""
        for record in records:
            if not isinstance(record, Invocation):
                continue
            self._calls.labels(record.module, "yes" if record.error else "no").inc()
            if (usage := record.usage) is not None:
                self._tokens.labels(record.module, "prompt").inc(usage.prompt_tokens)
                self._tokens.labels(record.module, "completion").inc(usage.completion_tokens)
                self._usd.labels(record.module).inc(usage.usd or 0.0)

    def text(self) -> bytes:
        """Return all counters in Prometheus' text format."""
        return generate_latest(self._registry)
