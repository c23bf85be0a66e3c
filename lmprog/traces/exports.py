"""Exporters of traces, beside a command's output: file, collector, tracer provider. None of them fails a run."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.compiler import plan
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.errors import UsageError
from lmprog.traces.run_trace import Exporter, RunTrace, warn

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


_made: dict[tuple[object, ...], Exporter] = {}
_added: list[Exporter] = []
_closers: list[Callable[[], object]] = []


def exporters(declared: plan.Export | None) -> Sequence[Exporter]:
    """Return the exporters of the spec and of `export_to`; raise UsageError for a collector without an address."""
    if declared is None:
        return _added
    if declared.file is not None:
        key: tuple[object, ...] = (os.getpid(), declared.file)
        return [_made.get(key) or _made.setdefault(key, _FileExport(declared.file)), *_added]
    assert declared.otlp is not None
    address = _value(declared.otlp)
    headers = tuple((name, _value(value)) for name, value in declared.headers.items())
    key = (os.getpid(), address, headers, declared.content)
    if key not in _made:
        from lmprog.traces.telemetry import Spans, collector

        provider = collector(address, dict(headers))
        _closers.append(provider.shutdown)
        _made[key] = Spans(provider, declared.content)
    return [_made[key], *_added]


def export_to(provider: TracerProvider, *, content: bool = False) -> Callable[[], None]:
    """Have every run of this process traced by an OpenTelemetry tracer provider; what is returned ends that.

    Prompts, replies and what tools are given and give are left out unless `content`.
    """
    from lmprog.traces.telemetry import Spans

    spans = Spans(provider, content)
    _added.append(spans)
    return lambda: _added.remove(spans)


@atexit.register
def close() -> None:
    """Send what is not sent yet, and close what is open."""
    _made.clear()
    while _closers:
        _closers.pop()()


class _FileExport:
    """Appends the records of each run to a file; the first failure is told, and ends it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Any = None
        self._failed = False

    def __call__(self, run: RunTrace) -> None:
        from lmprog.traces.files import TraceWriter

        if self._failed:
            return
        try:
            if self._writer is None:
                self._writer = TraceWriter(self.path, shared=True)
                _closers.append(self._writer.close)
            self._writer.write(run.records)
        except OSError as error:
            self._failed = True
            warn(f"traces cannot be written to {self.path} ({error.strerror}); the runs go on without")


def _value(expression: Any) -> str:
    try:
        return str(expression.evaluate({"env": os.environ}))
    except EvaluationError as error:
        raise UsageError(f"{error}; set the variable in the environment and run the command again") from error
