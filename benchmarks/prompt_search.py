"""lmprog's prompt optimizers beside DSPy's: the same tasks, rows, metrics, model and engine, and no more LM calls.

Banking77 (12 intents) and multihop (two searches, recall of the wanted pages) on the embedded model, which is its own
proposer. DSPy's `BootstrapFewShotWithRandomSearch` and `MIPROv2` go first; `prompt_search` and `bootstrap` may then spend as
many LM calls as the one of the two that took fewer. What DSPy asks again because it could not read a reply is counted, and
a run that it cannot read scores 0, as it has it. The test rows are scored at the end and counted nowhere. Each optimizer
chooses on the same dev rows; none has more demos than another may have.

    python benchmarks/prompt_search.py                                # 3 seeds of both tasks; wants the extra `bench`
    python benchmarks/prompt_search.py --tasks banking77 --seeds 0
    python benchmarks/prompt_search.py --seeds                        # measures nothing: the tables of what is finished
    python benchmarks/prompt_search.py --quick                        # minutes, and nothing of it is kept

Every finished cell (task, seed, optimizer) is a line of `--ledger`; a run that was cut goes on from there, also several at
once on other seeds. The intervals are over test rows, paired row by row; where seeds share a test row, it counts once, with its
mean.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledger import Ledger
from prompt_search_tasks import QUICK, TASKS, Sizes, Task

import lmprog
from lmprog.optimizers.optimizer import find
from lmprog.scoring.statistics import Difference, paired

ZERO_SHOT = "lmprog zero-shot"
KNOBS = {"lmprog prompt_search": ("prompt_search", "trials"), "lmprog bootstrap": ("bootstrap", "sets")}
"""The stage, and the option that says how many candidates it scores."""
DSPY_ZERO_SHOT = "DSPy zero-shot"
DSPY = ("DSPy BootstrapFewShotWithRandomSearch", "DSPy MIPROv2")
OPTIMIZERS = (DSPY_ZERO_SHOT, *DSPY, ZERO_SHOT, *KNOBS)
"""In the order in which they run."""
LEDGER = Path(__file__).resolve().parent.parent / "docs" / "beside-dspy.jsonl"
COLUMNS = {"unread": "d", "calls": "d", "repeated": "d", "points": ".1f"}
"""Of a cell, shown seed by seed."""


@dataclass(frozen=True)
class Cell:
    """What one optimizer came to: the score of each test row, by its digest; LM calls and minutes without the test."""

    task: str
    seed: int
    optimizer: str
    sizes: dict[str, int]
    calls: int
    minutes: float
    unread: int
    """Test rows with a reply that could not be read, which score 0."""
    scores: dict[str, float]
    repeated: int = 0
    """Calls that a cache could have answered; lmprog makes none."""

    @property
    def key(self) -> tuple[str, int, str, dict[str, int]]:
        return self.task, self.seed, self.optimizer, self.sizes

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)

    @property
    def points(self) -> float:
        return 100 * self.mean

    def __str__(self) -> str:
        what = f"{self.task}, seed {self.seed}, {self.optimizer}"
        score = f"{self.points:.1f}% of {len(self.scores)}"
        return f"{what}: {score}, {self.unread} unread, {self.calls} calls, {self.minutes:.1f} minutes"


def ours(task: Task, optimizer: str, seed: int, most: int, folder: Path) -> tuple[lmprog.Program, int]:
    """The program that an optimizer of lmprog makes with at most so many LM calls, and how many it took."""
    if optimizer == ZERO_SHOT:
        return lmprog.load(task.spec), 0
    stage, knob = KNOBS[optimizer]
    options = _options(task, stage)
    optimizing, start = find(stage), lmprog.load(task.spec)

    def bound(candidates: int) -> int:
        made = optimizing(optimizing.Config.model_validate({**options, knob: candidates}))
        return made.most_calls(start, len(task.train), len(task.dev))

    options[knob] = max((count for count in range(1, 1000) if bound(count) <= most), default=1)
    stages = {"optimize.stages": [{stage: options}]}
    tuned = lmprog.optimize(
        task.spec,
        seed=seed,
        run_dir=folder / stage,
        out=folder / f"{stage}.yaml",
        budget={"lm_calls": most},
        overrides=stages,
    )
    return lmprog.load(tuned.overlay, overrides=stages), tuned.report["spent"]["lm_calls"]


def _options(task: Task, stage: str) -> dict[str, Any]:
    """At most as many demos as the others may have."""
    if stage == "prompt_search":
        return {"demos": [count for count in (4, 8, 16) if count <= task.demos]}
    return {"demos": task.demos, "labelled": task.demos}


def measured(task: Task, seed: int, optimizer: str, sizes: Sizes, most: int, folder: Path) -> Cell:
    started = time.perf_counter()
    if optimizer in (DSPY_ZERO_SHOT, *DSPY):
        from prompt_search_dspy import PEERS, Peer

        # DSPy writes of its progress at length.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            peer = Peer(task, sizes, seed)
            found = PEERS[optimizer](peer)
            minutes = (time.perf_counter() - started) / 60
            scores, unread = peer.scores(found.program)
        calls, repeated = found.calls, found.repeated
    else:
        repeated = 0
        program, calls = ours(task, optimizer, seed, most, folder)
        minutes = (time.perf_counter() - started) / 60
        tested = lmprog.evaluate(program, task.test, task.metric)
        assert not tested.errors, tested.errors[0].cause
        scores, unread = list(tested.by_row.values()), tested.unreadable
    digests = [hashlib.sha256(row[task.inputs[0]].encode()).hexdigest()[:16] for row in task.test]
    by_row = dict(zip(digests, scores, strict=True))
    return Cell(task.name, seed, optimizer, asdict(sizes), calls, minutes, unread, by_row, repeated)


def run(ledger: Ledger[Cell], data: Path, name: str, seed: int, sizes: Sizes) -> None:
    """The cells of one task and seed that are not in the ledger yet."""
    with tempfile.TemporaryDirectory() as made:
        task = TASKS[name](data, sizes, seed, Path(made))
        for optimizer in OPTIMIZERS:
            if ledger.find(name, seed, optimizer, asdict(sizes)) is None:
                peers = [ledger.find(name, seed, peer, asdict(sizes)) for peer in DSPY]
                most = min((peer.calls for peer in peers if peer is not None), default=0)
                cell = measured(task, seed, optimizer, sizes, most, Path(made))
                ledger.add(cell)
                print(cell, flush=True)


def against(before: Iterable[Cell], after: Iterable[Cell]) -> Difference:
    """`after` beside `before` over the test rows of all seeds."""
    first, second = _by_row(before), _by_row(after)
    return paired([first[row] for row in first], [second[row] for row in first])


def _by_row(cells: Iterable[Cell]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for cell in cells:
        for row, score in cell.scores.items():
            found.setdefault(row, []).append(score)
    return {row: sum(scores) / len(scores) for row, scores in found.items()}


def table(name: str, cells: Sequence[Cell]) -> str:
    """Markdown: a line for each optimizer, then lmprog beside DSPy."""
    by: Mapping[str, list[Cell]] = {o: [cell for cell in cells if cell.optimizer == o] for o in OPTIMIZERS}
    seeds = sorted({cell.seed for cell in cells})
    rows = len(_by_row(by[ZERO_SHOT]))
    lines = [
        f"**{name}**, seeds {', '.join(map(str, seeds))}, {rows} test rows, points with 95% intervals",
        "",
        "| | test score | by seed | over its own zero-shot | unread | LM calls | of them repeated |",
        "|---|---|---|---|---|---|---|",
    ]
    for optimizer in (ZERO_SHOT, *KNOBS, DSPY_ZERO_SHOT, *DSPY):
        found = by[optimizer]
        start = by[DSPY_ZERO_SHOT if optimizer.startswith("DSPy") else ZERO_SHOT]
        gain = "" if found is start else _shown(against(start, found))
        columns = ([format(getattr(cell, name), form) for cell in found] for name, form in COLUMNS.items())
        unread, calls, repeated, means = (", ".join(column) for column in columns)
        mean = sum(cell.points for cell in found) / len(found)
        lines.append(f"| {optimizer} | {mean:.1f} | {means} | {gain} | {unread} | {calls} | {repeated} |")
    lines += ["", f"| | {' | '.join(DSPY)} |", "|---|---|---|"]
    for optimizer in KNOBS:
        lines.append(f"| {optimizer} less | {' | '.join(_shown(against(by[peer], by[optimizer])) for peer in DSPY)} |")
    return "\n".join(lines)


def _shown(difference: Difference) -> str:
    low, high = difference.ci95
    return f"{100 * difference.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="with banking77/ and multihop/")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed, few rows: to see that it runs")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="the finished cells")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        sizes, seeds = (QUICK, options.seeds[:1]) if options.quick else (Sizes(), options.seeds)
        path = Path(passing) / "quick.jsonl" if options.quick else options.ledger
        ledger = Ledger(path, lambda values: Cell(**values))
        for name in options.tasks:
            for seed in seeds:
                run(ledger, options.data, name, seed, sizes)
        known = sorted({cell.seed for cell in ledger.read()})
        for name in options.tasks:
            found = [[ledger.find(name, seed, optimizer, asdict(sizes)) for optimizer in OPTIMIZERS] for seed in known]
            finished = [cell for cells in found if None not in cells for cell in cells]
            print("\n" + (table(name, finished) if finished else f"**{name}**: no seed is finished"))


if __name__ == "__main__":
    try:
        main()
    except (lmprog.LmprogError, lmprog.SpecError) as error:
        sys.exit(f"error: {error}")
