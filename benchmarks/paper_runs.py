"""The finished runs of benchmarks/paper.py, as they stand in its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paper_tasks import RUNS, SMALL


@dataclass(frozen=True)
class Version:
    """The program at one point of a run. `calls`, `rollouts` and `minutes` are what it took up to there, without the test."""

    cell: str
    """As in paper_tasks.RUNS."""
    calls: int
    rollouts: int
    """Runs of the program that weights were trained with."""
    minutes: float
    dev: float | None
    """The mean over all dev rows, where it was scored on them."""
    scores: Sequence[float | None]
    """Of the test rows, in their order; None for one that a provider, a tool or the metric failed."""

    @property
    def mean(self) -> float:
        scored = [score for score in self.scores if score is not None]
        return sum(scored) / len(scored)


@dataclass(frozen=True)
class Measured:
    """One run of one task with one seed."""

    task: str
    run: str
    seed: int
    settings: Mapping[str, Any]
    """Rows and stages, as from paper_tasks.settings_of."""
    test: str
    """Digest of the test rows: scores are paired over equal ones only."""
    versions: Sequence[Version]
    curve: Sequence[Sequence[float]]
    """(LM calls, mean over the dev rows) of each scoring in training."""
    again: float | None
    """The test score of the overlay in a process of its own, which loads the adapter from the disk."""
    made_by: Mapping[str, str]
    """The commit, the program's digest, and the versions of what computed."""
    machine: str

    @property
    def student(self) -> str:
        """The name of the model that was tuned."""
        name: str = self.settings.get("student", SMALL.name)
        return name

    @property
    def key(self) -> tuple[str, str, int, Mapping[str, Any]]:
        return self.task, self.run, self.seed, self.settings

    def __str__(self) -> str:
        last, scores = self.versions[-1], ", ".join(f"{each.cell} {100 * each.mean:.1f}" for each in self.versions)
        again = "" if self.again is None else f", again {100 * self.again:.1f} in a fresh process"
        cost = f"{last.calls:,} LM calls, {last.rollouts:,} rollouts, {last.minutes:.1f} minutes"
        what = f"{self.student}, {self.task}, {self.run}, seed {self.seed}"
        return f"{what}: {scores} of 100 on {len(last.scores)} test rows{again}; {cost}"

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Measured:
        return Measured(**{**values, "versions": [Version(**version) for version in values["versions"]]})


def by_seed(measured: Sequence[Measured], task: str, cell: str) -> dict[int, Version]:
    """A cell of a task, by seed. Several runs have the base program, and two the prompt search: the first of RUNS counts."""
    found: dict[int, Version] = {}
    for run in RUNS:
        for made in measured:
            if (made.task, made.run) == (task, run):
                for version in made.versions:
                    if version.cell == cell:
                        found.setdefault(made.seed, version)
    return dict(sorted(found.items()))
