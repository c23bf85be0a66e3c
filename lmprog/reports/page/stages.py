"""The charts of a stage: scores of its search, dev scores of its weights, and the health of each training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmprog.reports.page.charts import Chart, Point, Series
from lmprog.reports.page.run_report import StageReport
from lmprog.scoring.statistics import Estimate

Step = Mapping[str, Any]
"""A `step` event of the journal: one training step with its reward or loss, entropy, seconds and memory."""


def charts(stage: StageReport) -> list[Chart]:
    """Return the charts of a stage: of the search, of the scores on dev rows, and of training, in this order, each
    where the stage's journal has values for it."""
    return [*_search(stage), *_dev(stage), *_health(stage.steps)]


def without_signal(step: Step) -> float | None:
    """Return the share of a training step's examples whose rollouts all have the same reward; None where it is not known."""
    return step["without_signal"] / step["examples"] if step.get("examples") else None


def _search(stage: StageReport) -> list[Chart]:
    """Return the chart of a search's scores in a list; empty where the stage did not search."""
    if not stage.searched:
        return []
    best = [
        Point(one.number, one.best.mean, f"best after {one.number}: {one.best}", *one.best.ci95)
        for one in stage.searched
    ]
    each = [
        Point(one.number, one.score.mean, f"{one.digest[:8]}: {one.score} of {one.rows} rows", *one.score.ci95)
        for one in stage.searched
    ]
    series = [Series("best so far", best, "steps", 1), Series("each candidate", each, "dots", 2)]
    several = len({one.rows for one in stage.searched[1:]}) > 1
    note = "The best may fall where candidates are scored again on more rows." if several else None
    return [Chart("Score on dev over trials", "candidates scored", series, percent=True, note=note)]


def _dev(stage: StageReport) -> list[Chart]:
    """Return the chart of the dev scores of the weights by training step in a list; empty where there are none."""
    if not stage.dev:
        return []
    points = [_estimated(step, score) for step, score in stage.dev.items()]
    return [Chart("Score on dev over steps", "step", [Series("dev", points)], percent=True)]


def _estimated(step: int, score: Estimate) -> Point:
    """Return the point of a dev score at a training step, with its interval."""
    return Point(step, score.mean, f"step {step}: {score}", *score.ci95)


def _health(steps: Sequence[Step]) -> list[Chart]:
    """Return the charts of what training steps have measured, those for which any step has a value."""
    drawn = [
        _over_steps("Mean reward", steps, {"reward": lambda step: step.get("reward")}),
        _over_steps("Loss", steps, {"loss": lambda step: step.get("loss")}),
        _over_steps("Entropy of a token, nat", steps, {"entropy": lambda step: step.get("entropy")}),
        _over_steps("KL to the start", steps, {"kl": lambda step: step.get("kl")}),
        _over_steps(
            "Examples without signal", steps, {"without signal": without_signal}, percent=True, span=(0.0, 1.0)
        ),
        _over_steps(
            "Seconds of a step",
            steps,
            {
                "whole step": lambda step: step.get("seconds"),
                "rollouts": lambda step: step.get("split", {}).get("rollout"),
            },
            span=(0.0, 0.0),
        ),
        _over_steps(
            "Memory of the process, megabytes",
            steps,
            {name: lambda step, name=name: step.get("memory", {}).get(name) for name in ("peak", "now", "weights")},  # type: ignore[misc]
            span=(0.0, 0.0),
        ),
    ]
    return [chart for chart in drawn if chart is not None]


def _over_steps(
    title: str, steps: Sequence[Step], parts: Mapping[str, Callable[[Step], float | None]], **how: Any
) -> Chart | None:
    """Return a chart of values by step, a line for each of `parts`: its name, and a function from a step to the value (None:
    the step has none). None where no step has a value; values that are not finite are left out. `how` are further
    arguments of Chart.
    """
    series = []
    for colour, (name, part) in enumerate(parts.items(), 1):
        found = [(step["step"], value) for step in steps if (value := part(step)) is not None and math.isfinite(value)]
        points = [Point(number, value, f"step {number}: {name} {value:.4g}") for number, value in found]
        if points:
            series.append(Series(name, points, "line", colour))
    return Chart(title, "step", series, **how) if series else None
