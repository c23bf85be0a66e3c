"""Exporters of traces: files, collectors and destinations of other packages, as a spec's `export`, the environment or
`export_to` names them. None of them makes a run fail."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.boundary.secret_forms import forms_of, without
from lmprog.compiler.exporters import BUILT_IN, registered
from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.plan import Export, Plan
from lmprog.compiler.plugins import function_of
from lmprog.errors import LmprogError, UsageError
from lmprog.traces import otel_environment
from lmprog.traces.run_record import RunRecord, RunRecorder
from lmprog.traces.run_trace import Exporter, RunTrace, warn

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


_made: dict[tuple[object, ...], Exporter | None] = {}
_added: list[Exporter] = []
_closers: list[Callable[[], object]] = []
_content = otel_environment.ContentRule()
_warned: set[str] = set()


def exporters(plan: Plan) -> Sequence[Exporter]:
    """Return the exporters of the runs of `plan`: the one of its spec's `export` block, the collector that the environment
    names (unless the spec names one), and those that `export_to` added. Each is made once in a process.

    Raises UsageError where the spec's exporter cannot be made, or an environment variable that it reads is not set.
    """
    found = [_of_spec(plan.export)] if plan.export is not None else []
    if (plan.export is None or plan.export.key != "otlp") and (ours := _of_environment(plan)) is not None:
        found.append(ours)
    return [*found, *_added] if found else _added


def _of_spec(declared: Export) -> Exporter:
    settings = _evaluated(declared.settings)
    key = (os.getpid(), declared.key, json.dumps(settings, sort_keys=True, default=str))
    made = _made.get(key)
    if made is None:
        destination = registered(declared.key)
        assert destination is not None, declared.key
        make = function_of(destination.make)
        made = make(settings) if declared.key in BUILT_IN else _OfOtherPackage(declared, make, settings)
        _keep(key, made)
    return made


def _of_environment(plan: Plan) -> Exporter | None:
    """Return the exporter that the environment turns on by itself; None where it turns on none. Where it cannot be made,
    that is printed once, and None is returned."""
    wanted = otel_environment.wanted()
    if wanted is None:
        return None
    content = wanted.content and _content.allows(plan)
    if wanted.content and not content:
        _warn_once(
            "the environment wants prompts and replies in traces, and the program has private values: they are left out; "
            "a spec with `export` sends them, if `lmprog check` lets it"
        )
    key = (os.getpid(), wanted, content)
    if key not in _made:
        from lmprog.traces.collector import collector_of_environment

        grpc = [signal for signal in ("TRACES", "METRICS") if otel_environment.speaks_grpc(signal)]
        if grpc:
            _warn_once("the environment wants OTLP over gRPC, and lmprog sends it over HTTP alone: nothing is exported")
        traces, metrics = wanted.traces and "TRACES" not in grpc, wanted.metrics and "METRICS" not in grpc
        try:
            _keep(key, collector_of_environment(traces, metrics, content))
        except UsageError as error:
            _warn_once(f"{error}; nothing is exported, though the environment asks for it")
            _keep(key, None)
    return _made[key]


def _keep(key: tuple[object, ...], made: Exporter | None) -> None:
    """Keep a made exporter by its settings, to be used again and closed at the end."""
    _made[key] = made
    _closers.append(getattr(made, "close", lambda: None))


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warn(text)


def export_to(
    provider: TracerProvider, *, content: bool = False, meters: MeterProvider | None = None
) -> Callable[[], None]:
    """Send the traces of all later runs of this process to an OpenTelemetry tracer provider; call the returned function to end
    that. Dry runs and replays are not sent.

    Prompts, replies, arguments and results of tools are left out unless `content`. With `meters`, a meter provider, tokens and
    seconds are measured there (None: they are not). The providers stay open.
    """
    from lmprog.traces.measurements import Measurements
    from lmprog.traces.telemetry import Spans

    ours: list[Exporter] = (
        [Spans(provider, content)] if meters is None else [Spans(provider, content), Measurements(meters)]
    )
    _added.extend(ours)

    def end() -> None:
        while ours:
            _added.remove(ours.pop())

    return end


@atexit.register
def close() -> None:
    """Send what the exporters of specs and of the environment still hold, and close them; called at exit. Later runs make
    them anew."""
    _made.clear()
    while _closers:
        _closers.pop()()


class FileExport:
    """An exporter that appends the records of each run to the file `settings["file"]`, which several processes may share;
    its first failure is printed as a warning, and ends the export. The file is opened at the first run."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.path: Path = settings["file"]
        self._writer: Any = None
        self._recorder: tuple[Plan, RunRecorder] | None = None
        self._failed = False

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._writer is not None:
            self._writer.close()

    def __call__(self, run: RunTrace) -> None:
        from lmprog.traces.files import TraceWriter

        if self._failed:
            return
        try:
            if self._writer is None:
                self._writer = TraceWriter(self.path, shared=True)
            self._writer.write([*run.records, *self._of_run(run)])
        except (OSError, UsageError) as error:
            self._failed = True
            why = error.strerror if isinstance(error, OSError) else error
            warn(f"traces cannot be written to {self.path} ({why}); the runs go on without")

    def _of_run(self, run: RunTrace) -> list[RunRecord]:
        """Return a list with the record of the whole run; empty for the run of a judge, which has no plan."""
        if run.plan is None:
            return []
        if self._recorder is None or self._recorder[0] is not run.plan:
            self._recorder = run.plan, RunRecorder(run.plan)
        return [
            self._recorder[1].record(
                run.inputs,
                run.outputs,
                run.error,
                run.records,
                example=run.example,
                rollout=run.rollout,
                tags=run.tags,
                client_calls=run.client_calls,
            )
        ]


class _OfOtherPackage:
    """An exporter of another package, whose first failure is printed and ends it, so that no run fails by it. `make` makes
    it from the evaluated `settings`; raises UsageError where that fails. Messages hold no values of the environment."""

    def __init__(self, declared: Export, make: Callable[..., Exporter], settings: Mapping[str, Any]) -> None:
        self._key, self._secrets = declared.key, forms_of({*_secrets(declared.settings)})
        self._export: Exporter | None = None
        try:
            self._export = make(settings)
        except LmprogError:
            raise
        except Exception as error:
            raise UsageError(f"`{self._key}` of `export` cannot be made: {self._said(error)}") from error

    def __call__(self, run: RunTrace) -> None:
        if self._export is not None:
            try:
                self._export(run)
            except Exception as error:
                self._export = None
                warn(f"traces cannot be sent to `{self._key}` ({self._said(error)}); the runs go on without")

    def close(self) -> None:
        """Close the exporter, where it has a `close`, whose failure is printed."""
        try:
            getattr(self._export, "close", lambda: None)()
        except Exception as error:
            warn(f"`{self._key}` of `export` was not closed: {self._said(error)}")

    def _said(self, error: Exception) -> str:
        return without(f"{type(error).__name__}: {error}", self._secrets, "[secret]")


def _secrets(settings: Any) -> Iterator[str]:
    """Yield the values in the settings that come from the environment."""
    if isinstance(settings, Expression):
        yield str(_evaluated(settings))
    elif isinstance(settings, Mapping | list):
        for part in settings.values() if isinstance(settings, Mapping) else settings:
            yield from _secrets(part)


def _evaluated(settings: Any) -> Any:
    """Return the settings with the values of the environment; raise UsageError for a variable that is not set."""
    if isinstance(settings, Mapping):
        return {name: _evaluated(part) for name, part in settings.items()}
    if isinstance(settings, list):
        return [_evaluated(part) for part in settings]
    if not isinstance(settings, Expression):
        return settings
    try:
        return str(settings.evaluate({"env": os.environ}))
    except EvaluationError as error:
        raise UsageError(f"{error}; set the variable in the environment and run the command again") from error
