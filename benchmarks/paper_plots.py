"""The plots of docs/results.md. Wants matplotlib, of the extra `bench`; equal figures give equal files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
from paper_runs import Measured, by_seed
from paper_statistics import over_seeds_and_rows
from paper_tasks import RUNS, TASKS

matplotlib.use("Agg")
from matplotlib import pyplot

COLOURS = dict(zip(RUNS, ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"), strict=True))
CELLS = (
    *("#999999", "#56b4e9", "#e69f00", "#d55e00", "#0072b2", "#009e73", "#cc79a7"),
    *("#f0e442", "#b8860b", "#a6cee3", "#1f3b73", "#6a3d9a", "#33a02c"),
)
STYLE = {
    "svg.hashsalt": "lmprog",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(measured: Sequence[Measured], folder: Path, titles: Mapping[str, str]) -> dict[str, Path]:
    """Write the plots that there are figures for, and give what each shows with its file."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with pyplot.rc_context(STYLE):
        for task in TASKS:
            runs = [made for made in measured if made.task == task]
            if runs:
                text = f"{task}: score against LM calls; points are test scores, thin lines dev scores in training"
                found[text] = _saved(_against_calls(task, runs), folder / f"results-{task}.svg")
        text = "test scores by task, with 95% intervals over seeds and rows"
        found[text] = _saved(_bars(measured, titles), folder / "results-bars.svg")
    return found


def _against_calls(task: str, runs: Sequence[Measured]) -> Any:
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for run, colour in COLOURS.items():
        of = [made for made in runs if made.run == run]
        for made in of:
            axes.plot(*_points(made.curve), color=colour, linewidth=0.8, alpha=0.5)
        if of:
            versions = list(zip(*(made.versions for made in of), strict=True))
            calls = [fmean(each.calls for each in seeds) for seeds in versions]
            scores = [100 * fmean(each.mean for each in seeds) for seeds in versions]
            axes.plot(calls, scores, color=colour, marker="o", linestyle=":", label=f"{run} ({len(of)})")
    axes.set(title=task, xlabel="LM calls of the optimization", ylabel="score, of 100", ylim=(0, None))
    figure.legend(loc="outside right upper", frameon=False, title="run (seeds)")
    return figure


def _points(curve: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [calls for calls, _ in curve], [100 * dev for _, dev in curve]


def _bars(measured: Sequence[Measured], titles: Mapping[str, str]) -> Any:
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    tasks = [task for task in TASKS if any(made.task == task for made in measured)]
    width = 0.8 / len(titles)
    for number, (cell, title) in enumerate(titles.items()):
        places, means, errors = [], [], []
        for place, task in enumerate(tasks):
            by = by_seed(measured, task, cell)
            rows = [row for row in zip(*(version.scores for version in by.values()), strict=True) if None not in row]
            if len(rows) > 1:
                shown = over_seeds_and_rows([list(of) for of in zip(*rows, strict=True)]).times(100)
                places.append(place + (number - len(titles) / 2 + 0.5) * width)
                means.append(shown.mean)
                errors.append(shown.ci95[1] - shown.mean)
        if places:
            axes.bar(places, means, width, yerr=errors, color=CELLS[number], label=title, error_kw={"linewidth": 0.8})
    axes.set(ylabel="test score, of 100", xticks=range(len(tasks)), xticklabels=tasks, ylim=(0, None))
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _saved(figure: Any, path: Path) -> Path:
    beside = path.with_name(f".{path.name}.new")
    figure.savefig(beside, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    beside.replace(path)
    return path
