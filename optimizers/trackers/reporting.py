"""Reports of an optimization to experiment trackers: its settings, the figures of every stage, the overlay and the report."""

from __future__ import annotations

import json
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lmprog.boundary.secret_forms import FROM_FILES, forms_of, secrets_of_address, without
from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.private import holds_private
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.errors import LmprogError, UsageError
from lmprog.optimizers.trackers.tracker import Tracker, tracker
from lmprog.traces.run_trace import warn

RUNS = "trackers.json"
"""In the run's folder: the run of each tracker, with which --resume goes on."""
KEYS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "WANDB_API_KEY")
"""Variables of the environment whose values are secrets of a tracker."""
ADDRESSES = ("MLFLOW_TRACKING_URI", "WANDB_BASE_URL")
"""Variables of the environment with the address of a tracker's server, which may hold a password."""
BOUND = 60.0
"""Seconds that the end of an optimization waits for a tracker."""


class Reporting:
    """A listener of the journal that reports to trackers, each from a thread of its own, so that a slow one delays no
    stage.

    A tracker that fails is reported once and gets no more data, nor the end of its run; the optimization goes on.
    `private` is True where the program has private values: its overlay is then not sent.
    """

    def __init__(self, trackers: Mapping[str, Tracker], private: bool = False) -> None:
        self._private = private
        self._workers = {name: _Worker(name, each) for name, each in trackers.items()}
        self._stage = "run"
        self._spendings = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Report the numbers of an event of the journal, where it is a training step, a score on dev rows, a prompt round, a
        trial, the end of a stage, or spending; texts are not reported."""
        kind = event["event"]
        if kind == "stage_started":
            self._stage = f"{event['number']}-{event['name']}"
        elif kind in ("step", "dev", "round"):
            prefix = "" if kind == "step" else f"{kind}/"
            figures = _figures({name: value for name, value in event.items() if name not in ("event", "step")})
            self._log({f"{prefix}{name}": value for name, value in figures.items()}, event["step"])
        elif kind == "trial":
            self._log(_figures({name: event[name] for name in ("score", "best")}), event["number"])
        elif kind == "stage_ended":
            self._log(_figures({name: event[name] for name in ("validate", "gain")}), 0)
        elif kind == "spending":
            self._spendings += 1
            self._log(_figures({"spent": event["spent"]}), self._spendings)

    def finish(self, report: Mapping[str, Any], overlay: Path, written: Path) -> None:
        """Report the result of an optimization: the test scores in `report`, and as files the overlay and the report
        (`written`).

        The overlay of a program with private values is not sent, with a warning, since words and demos may contain some,
        whatever `declassify` says of the file itself.
        """
        self._stage = "run"
        test = {name: (report["test"] or {}).get(name) for name in ("before", "after", "difference")}
        self._log(_figures({"before_dev": report["before"], "test": test, "spent": report["spent"]}), 0)
        for worker in self._workers.values():
            worker.put(lambda each: each.keep([written] if self._private else [overlay, written]))
        if self._private and self._workers:
            warn(f"{overlay} is not sent to {', '.join(self._workers)}: the program has private values")

    def end(self, succeeded: bool) -> None:
        """End the runs of all trackers, as succeeded or as failed, and wait for each until it has taken all reports, at
        most BOUND (60) seconds; what it has not taken then is given up, with a warning."""
        for worker in self._workers.values():
            worker.end(succeeded)

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        if figures:
            for worker in self._workers.values():
                worker.put(partial(_log, stage=self._stage, figures=figures, step=step))


def _log(each: Tracker, stage: str, figures: Mapping[str, float], step: int) -> None:
    each.log(stage, figures, step)


class _Worker:
    """A thread that hands reports to one tracker, in their order."""

    def __init__(self, name: str, each: Tracker) -> None:
        self._name, self._tracker = name, each
        self._queue: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"lmprog-{name}", daemon=True)
        self._thread.start()

    def put(self, report: Callable[[Tracker], None]) -> None:
        self._queue.put(report)

    def end(self, succeeded: bool) -> None:
        self._queue.put(lambda each: each.end(succeeded))
        self._queue.put(None)
        self._thread.join(BOUND)
        if self._thread.is_alive():
            warn(f"{self._name} has not taken all reports within {BOUND:.0f} seconds; the rest is not waited for")

    def _work(self) -> None:
        failed = False
        while (report := self._queue.get()) is not None:
            if failed:
                continue
            try:
                report(self._tracker)
            except Exception as error:
                failed = True
                warn(f"nothing more is reported to {self._name} ({_said(error)}); the optimization goes on")


@contextmanager
def reporting(names: Sequence[str], plan: Plan, seed: int, folder: Path, going_on: bool) -> Iterator[Reporting]:
    """Begin a run in each of the trackers `names`, and yield the listener that reports to them; end the runs with the
    block, as failed where it raises.

    `going_on` is True for a resumed optimization, whose runs (their ids are in `folder`) are continued. Raises UsageError for
    a tracker that is not installed or cannot begin; runs of others that have begun are then ended as failed.
    """
    trackers = {name: _made(name) for name in dict.fromkeys(names)}
    path = folder / RUNS
    kept = json.loads(path.read_text()) if going_on and path.is_file() else {}
    begun: list[Tracker] = []
    for name, each in trackers.items():
        try:
            kept[name] = each.begin(plan.name, folder.name, _params(plan, seed), kept.get(name))
            begun.append(each)
        except Exception as error:
            for other in begun:
                with suppress(Exception):
                    other.end(False)
            raise _refused(name, error) from error
    if trackers:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(kept) + "\n", private=True)
    found, succeeded = Reporting(trackers, holds_private(plan)), False
    try:
        yield found
        succeeded = True
    finally:
        found.end(succeeded)


def _made(name: str) -> Tracker:
    """Return a new tracker. Raises UsageError where it is not installed, or its client refuses its settings, as MLflow does
    an address of a kind that it does not have."""
    try:
        return tracker(name)
    except LmprogError:
        raise
    except Exception as error:
        raise _refused(name, error) from error


def _refused(name: str, error: Exception) -> UsageError:
    return UsageError(f"{name} takes no reports: {_said(error)}; start it, or leave it out of `report_to`")


def _params(plan: Plan, seed: int) -> dict[str, Any]:
    """Return the settings of an optimization as a tracker's parameters."""
    block = plan.optimize
    assert block is not None
    found: dict[str, Any] = {"program": plan.name, "digest": plan.digest[:12], "seed": seed, "metric": block.metric}
    found |= {f"lms.{id}": lm.model for id, lm in plan.lms.items()}
    for number, stage in enumerate(block.stages, 1):
        found[f"stages.{number}"] = stage.optimizer
        found |= {f"stages.{number}.{name}": json.dumps(value, default=str) for name, value in stage.options.items()}
    return found | {f"budget.{name}": value for name, value in block.budget.items()}


def _figures(value: Any, name: str = "") -> dict[str, float]:
    """Return the finite numbers in nested values, by their names joined with `/`; of an interval its two ends."""
    if isinstance(value, Mapping):
        parts = ((f"{name}/{key}" if name else str(key), part) for key, part in value.items())
        return {inner: number for key, part in parts for inner, number in _figures(part, key).items()}
    if name.endswith("ci95") and isinstance(value, list | tuple) and len(value) == 2:
        stem = name.removesuffix("ci95")
        return {**_figures(value[0], f"{stem}low"), **_figures(value[1], f"{stem}high")}
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return {name: float(value)}
    return {}


def _said(error: Exception) -> str:
    """Return the type of an exception and the first line of its message, cut after 200 characters, without the secrets of the
    environment that a tracker may quote; the type alone where there is no message."""
    secrets = {*FROM_FILES, *(os.environ.get(name, "") for name in KEYS)}
    for name in ADDRESSES:
        secrets |= secrets_of_address(os.environ.get(name, ""))
    # One line: messages of HTTP clients go on for many, and may quote what was sent.
    lines = without(str(error), forms_of(secrets), "[secret]").strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
