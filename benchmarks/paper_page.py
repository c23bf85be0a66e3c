"""docs/results.md from the finished runs of benchmarks/paper.py: tables, ratios and plots between two marks.

What stands outside of the marks, the reading of the figures, is written by hand and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from paper_runs import Measured, Version, by_seed
from paper_statistics import Interval, mean_of, over_seeds_and_rows
from paper_tasks import RUNS, SMALL, TASKS, Sizes

from lmprog import UsageError
from lmprog.compiler.yaml.whole_file import write_whole

OPEN, CLOSE = "<!-- measured -->", "<!-- /measured -->"
NEW = f"# Results\n\n{OPEN}\n{CLOSE}\n"
NOT_YET = "not measured yet"
Cells = Mapping[str, Mapping[str, Mapping[int, Version]]]
"""Versions by task, cell and seed."""
TITLES = {
    "base": "base program",
    "search": "prompt search",
    "grpo": "GRPO",
    "grpo-search": "GRPO, then prompt search",
    "search-grpo": "prompt search, then GRPO",
    "fast-slow": "fast_slow",
    "trajectory": "prompt search, then GRPO by trajectory",
    "search-sft": "prompt search, then SFT on its own best runs",
    "search-sft-grpo": "prompt search, SFT, GRPO",
    "sft": "SFT on its own best runs",
    "sft-grpo": "SFT on its own best runs, then GRPO",
    "labels": "SFT on labelled rows",
    "labels-grpo": "SFT on labelled rows, then GRPO",
}
MAIN = ("base", "search", "grpo", "search-grpo")
"""The cells of the first table, in the order of its rows."""
EXTRA = frozenset({"search-sft", "search-sft-grpo", "sft", "sft-grpo", "labels", "labels-grpo"})
"""Cells that were tried on one task or two and are not meant for all; where one is missing, the page has a dash."""
PAPER = {
    "llama3.1-8b": ((58.4, 59.5, 76.2), (59.4, 63.4, 83.9), (63.7, 60.2, 83.9), (63.7, 68.3, 86.5)),
    "qwen3-8b": ((64.6, 60.6, 78.3), (65.9, 69.3, 78.1), (64.9, 71.0, 83.3), (69.1, 71.5, 81.1)),
}
"""The paper's figures, in percent on Banking77, HoVer and PAPILLON: as written, after MIPROv2, after mmGRPO, after both."""
DIFFERENCES = (
    ("search", "base"),
    ("grpo", "base"),
    ("search-grpo", "base"),
    ("search-grpo", "search"),
    ("search-grpo", "grpo"),
    ("grpo-search", "grpo"),
    ("search-grpo", "grpo-search"),
    ("fast-slow", "search-grpo"),
    ("search-grpo", "trajectory"),
    ("search-sft-grpo", "base"),
    ("search-sft-grpo", "search"),
    ("search-sft-grpo", "search-grpo"),
    ("sft", "base"),
    ("sft-grpo", "sft"),
    ("sft-grpo", "grpo"),
    ("sft-grpo", "search-grpo"),
    ("labels", "base"),
    ("labels-grpo", "labels"),
    ("labels-grpo", "search-grpo"),
)
HEADLINE = (("search-grpo", "base", 1.11), ("search-grpo", "search", 1.05))
"""The paper's two ratios of means over tasks: of both together to the program as written, and to prompt search."""


def write_page(path: Path, measured: Sequence[Measured], sizes: Sizes) -> None:
    """Write the page, and its plots into `images` beside it. Raises UsageError for a page with text but without the marks."""
    kept = path.read_text(encoding="utf-8") if path.exists() else NEW
    before, opened, rest = kept.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not opened or not closed:
        raise UsageError(f"{path} has no {OPEN} ... {CLOSE}; add the two lines where the figures are to stand")
    _same_rows(measured)
    plots = _plots([made for made in measured if made.student == SMALL.name], path.parent / "images")
    write_whole(path, f"{before}{OPEN}\n\n{body(measured, sizes, plots)}\n\n{CLOSE}{after}")


def body(measured: Sequence[Measured], sizes: Sizes, plots: Mapping[str, Path]) -> str:
    """All that stands between the marks."""
    students = list(dict.fromkeys([SMALL.name, *sorted(made.student for made in measured)]))
    found = {student: _cells([made for made in measured if made.student == student]) for student in students}
    parts = [_main(found), _headline(found), _rows(measured, sizes), "## Every difference"]
    parts += [_differences(student, cells) for student, cells in found.items()]
    parts += ["## Every run", _scores(found[SMALL.name]), _costs(measured)]
    parts += [f"![{text}](images/{file.name})" for text, file in plots.items()]
    return "\n\n".join([*parts, _made(measured)])


def _cells(measured: Sequence[Measured]) -> Cells:
    return {task: {cell: by_seed(measured, task, cell) for cell in TITLES} for task in TASKS}


def _same_rows(measured: Sequence[Measured]) -> None:
    for task in TASKS:
        if len({made.test for made in measured if made.task == task}) > 1:
            raise UsageError(f"the runs of {task} were scored on different test rows, so that none can be compared")


def _rows(measured: Sequence[Measured], sizes: Sizes) -> str:
    tests = {made.task: len(made.versions[0].scores) for made in measured}
    shown = [f"{task} {tests[task]}" if task in tests else f"{task} {NOT_YET}" for task in TASKS]
    return (
        f"Test rows: {', '.join(shown)}. Train and dev rows are those of {sizes.intents} intents (banking77: {sizes.banking77} "
        f"an intent; multihop: {sizes.multihop}; papillon: {sizes.papillon}, at most), the same for all seeds: the deviation "
        "over seeds is that of the optimizers' own draws."
    )


def _main(found: Mapping[str, Cells]) -> str:
    lines = [
        "Score on the test rows, of 100: the mean over seeds ± deviation (number of seeds). Below, the paper's figures, with "
        "models of 8 billion parameters, its own rows, and MIPROv2 as the prompt search.",
        "",
        f"| model | | {' | '.join(TASKS)} | mean |",
        "|---" * (3 + len(TASKS)) + "|",
    ]
    for student, cells in found.items():
        for cell in MAIN:
            lines.append(f"| {student} | {TITLES[cell]} | {' | '.join(_row(cells, cell))} |")
    titles = [TITLES[cell] for cell in MAIN[:-1]] + ["prompt search, then GRPO"]
    for model, rows in PAPER.items():
        for title, figures in zip(titles, rows, strict=True):
            shown = [f"{value:.1f}" for value in (*figures, fmean(figures))]
            lines.append(f"| {model} (paper) | {title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _row(cells: Cells, cell: str) -> list[str]:
    """Return the scores of a cell on each task, and their mean where all are there."""
    means = [_mean(cells[task][cell]) for task in TASKS]
    every = f"{100 * fmean(means):.1f}" if all(cells[task][cell] for task in TASKS) else _missing(cell)
    return [*(_score(cells[task][cell]) or _missing(cell) for task in TASKS), every]


def _missing(*cells: str) -> str:
    """Return what stands in the place of a figure that one of `cells` lacks."""
    return "–" if EXTRA & {*cells} else NOT_YET


def _scores(cells: Cells) -> str:
    lines = [f"{SMALL.name}:", "", f"| | {' | '.join(TASKS)} | mean |", "|---" * (2 + len(TASKS)) + "|"]
    lines += [f"| {title} | {' | '.join(_row(cells, cell))} |" for cell, title in TITLES.items()]
    return "\n".join(lines)


def _mean(by: Mapping[int, Version]) -> float:
    return fmean(version.mean for version in by.values()) if by else 0.0


def _score(by: Mapping[int, Version]) -> str:
    if not by:
        return ""
    means = [100 * version.mean for version in by.values()]
    spread = f" ± {stdev(means):.1f}" if len(means) > 1 else ""
    return f"{fmean(means):.1f}{spread} ({len(means)})"


def compared(after: Mapping[int, Version], before: Mapping[int, Version], factor: float = 1.0) -> Interval | None:
    """`after` less `factor` times `before`, over the seeds and the rows that both could score; None where there are none."""
    seeds = [seed for seed in after if seed in before]
    pairs = [list(zip(after[seed].scores, before[seed].scores, strict=True)) for seed in seeds]
    table = [[None if None in pair else pair[0] - factor * pair[1] for pair in of] for of in pairs]  # type: ignore[operator]
    whole = [row for row in zip(*table, strict=True) if None not in row]
    return over_seeds_and_rows([list(of) for of in zip(*whole, strict=True)]) if len(whole) > 1 else None


def _differences(student: str, found: Cells) -> str:
    lines = [
        f"{student}: differences in points, paired row by row within each seed, with 95% intervals over seeds and rows at once "
        "(benchmarks/paper_statistics.py has the method).",
        "",
        f"| | {' | '.join(TASKS)} | mean |",
        "|---" * (2 + len(TASKS)) + "|",
    ]
    for after, before in DIFFERENCES:
        own = [compared(found[task][after], found[task][before]) for task in TASKS]
        there = [each for each in own if each is not None]
        every = mean_of(there) if len(there) == len(TASKS) else None
        shown = [_missing(after, before) if each is None else str(each) for each in (*own, every)]
        if there or student == SMALL.name:
            lines.append(f"| {TITLES[after]}, less {TITLES[before]} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _headline(found: Mapping[str, Cells]) -> str:
    lines = [
        "The paper's headline: ratios of the means over tasks, with prompt search, then GRPO as the composition.",
        "",
        "| model | | ratio | without banking77 | tasks | paper |",
        "|---|---|---|---|---|---|",
    ]
    for student, cells in found.items():
        for after, before, theirs in HEADLINE:
            tasks = [task for task in TASKS if compared(cells[task][after], cells[task][before])]
            ratios = [
                _ratio([(cells[task][after], cells[task][before]) for task in tasks if task != out])
                for out in ("", "banking77")
            ]
            over = ", ".join(tasks) + ("" if len(tasks) == len(TASKS) else " only") if tasks else "–"
            what = f"{TITLES[after]}, by {TITLES[before]}"
            lines.append(f"| {student} | {what} | {' | '.join(ratios)} | {over} | {theirs:.2f} |")
    return "\n".join(lines)


def _ratio(pairs: Sequence[tuple[Mapping[int, Version], Mapping[int, Version]]]) -> str:
    """The ratio of the means over tasks; its interval (delta method) is that of (after - ratio * before) / mean before."""
    if not pairs:
        return NOT_YET
    both = [[(after[seed].mean, before[seed].mean) for seed in after if seed in before] for after, before in pairs]
    above = fmean(fmean(a for a, _ in of) for of in both)
    below = fmean(fmean(b for _, b in of) for of in both)
    if not below:
        return "no ratio: it divides by 0"
    ratio = above / below
    left = [compared(after, before, ratio) for after, before in pairs]
    low, high = mean_of([each for each in left if each is not None]).times(1 / below).ci95
    if ratio + low <= 0:  # the method holds only where the denominator is well known
        return f"{ratio:.2f}, no interval: it divides by almost nothing"
    return f"{ratio:.2f} [{ratio + low:.2f}, {ratio + high:.2f}]"


def _costs(measured: Sequence[Measured]) -> str:
    lines = [
        "What a run took, mean over seeds, the scoring of the test rows not counted; *again* is the overlay's test score in a "
        "fresh process, beside the one of the run, seed by seed.",
        "",
        "| model | task | run | seeds | LM calls | rollouts in training | minutes | again |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for student in dict.fromkeys([SMALL.name, *sorted(made.student for made in measured)]):
        for task, run in product(TASKS, RUNS):
            of = [made for made in measured if (made.student, made.task, made.run) == (student, task, run)]
            if of or (student == SMALL.name and not EXTRA & {*RUNS[run]}):
                shown = _cost(sorted(of, key=lambda made: made.seed))
                lines.append(f"| {student} | {task} | {run} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cost(of: Sequence[Measured]) -> list[str]:
    if not of:
        return [NOT_YET, *[""] * 4]
    last = [made.versions[-1] for made in of]
    mean: Callable[[str], float] = lambda name: fmean(getattr(version, name) for version in last)  # noqa: E731
    again = [f"{100 * made.again:.1f} / {100 * made.versions[-1].mean:.1f}" for made in of if made.again is not None]
    seeds = ", ".join(str(made.seed) for made in of)
    return [seeds, f"{mean('calls'):,.0f}", f"{mean('rollouts'):,.0f}", f"{mean('minutes'):.1f}", ", ".join(again)]


def _plots(measured: Sequence[Measured], folder: Path) -> dict[str, Path]:
    """The plots by what they show; none without matplotlib, and none of nothing."""
    if not measured:
        return {}
    try:
        from paper_plots import draw
    except ImportError:
        print("no plots: they want matplotlib, of the extra `bench`")
        return {}
    return draw(measured, folder, TITLES)


def _made(measured: Sequence[Measured]) -> str:
    commands = ("--data ../shared/data", "--write docs/results.md")
    lines = ["```", *(f"python benchmarks/paper.py {options}" for options in commands), "```"]
    if not measured:
        return "\n".join(lines)
    ways = [{**made.made_by, "machine": made.machine} for made in measured]
    programs = [
        f"The programs of {task} were not the same in all runs."
        for task in TASKS
        if len({made.made_by["program"] for made in measured if made.task == task}) > 1
    ]
    said = {name: _all_of(ways, name) for name in ways[0] if name != "program"}
    machine, commit = said.pop("machine"), said.pop("commit")
    packages = ", ".join(f"{name} {of}" for name, of in said.items())
    return "\n".join([*lines, "", " ".join([f"Measured on {machine}, at commit {commit}; {packages}.", *programs])])


def _all_of(ways: Sequence[Mapping[str, Any]], name: str) -> str:
    return " and ".join(dict.fromkeys(str(way.get(name)) for way in ways))
