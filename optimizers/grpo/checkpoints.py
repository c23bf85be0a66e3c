"""Checkpoints of a stage of weights between two steps, so that an interrupted run resumes from its last whole step.

The trainer writes its own part (weights, moments, schedule, draws) into `trainer/checkpoint-N`; the stage's part is
one file, written last and atomically. That file names the step, so a checkpoint without it counts as never made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.scoring.evaluation import Scores
from lmprog.spending.budget import Spent

ByRow = Sequence[tuple[int, float | None]]
"""Dev scores: index of the row, score."""


@dataclass(frozen=True)
class Progress:
    """The state of a weight stage at a step, apart from the trainer's, on which its next steps and its final choice depend.

    `taken` counts the examples drawn so far, `averages` are the running rewards by module, `best` is the best step with its
    scores by row, `spent` and `largest` are the amounts that the steps have spent, and the largest of one call, and `levels`
    the distinct rewards seen by module.
    """

    step: int
    taken: int
    """Examples that were taken from the train rows."""
    averages: Mapping[str, float]
    """Running averages of the reward, by module."""
    best: tuple[int, ByRow] | None
    """The step whose weights are best on dev, and their scores."""
    spent: Spent
    """Spending of the steps so far, their scorings included; that before the first step is not in it."""
    largest: Spent
    levels: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The values that the rewards have taken (`comparisons.Levels`)."""

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Progress:
        """Return the state from the plain values of `asdict`, as a checkpoint's file holds them."""
        best = values["best"]
        return Progress(
            **{
                **values,
                "best": None if best is None else (best[0], [(row, score) for row, score in best[1]]),
                "spent": Spent(**values["spent"]),
                "largest": Spent(**values["largest"]),
            }
        )


class Checkpoints:
    """The checkpoints of a stage in its folder; only the last one that was written whole is kept."""

    def __init__(self, folder: Path) -> None:
        self.trainer = folder / "trainer"
        self._folder = folder
        self._file = folder / "checkpoint.json"

    def last(self) -> Progress | None:
        """Return the state of the last whole checkpoint; None where there is none."""
        return Progress.from_json(json.loads(self._file.read_text())) if self._file.exists() else None

    def of_trainer(self, step: int) -> Path:
        """Return the folder in which the trainer writes its part of the checkpoint of a step (weights, state of AdamW);
        it need not exist."""
        return self.trainer / f"checkpoint-{step}"

    def best(self, step: int) -> Path:
        """Return the folder for the adapters (or models) after `step`; it exists where they were the best so far."""
        return self._folder / f"adapters-{step}"

    def commit(self, progress: Progress) -> None:
        """Make the step in `progress`, whose trainer's part is written, the last whole checkpoint, on the disk when this
        returns; delete the trainer's folders of all other steps, and all adapters but those of the best step in `progress`.
        """
        needed = {self.of_trainer(progress.step)}
        if progress.best is not None:
            needed.add(self.best(progress.best[0]))
        for path in (path for folder in needed for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        write_whole(self._file, json.dumps(asdict(progress)), private=True)
        for folder in [*self.trainer.glob("checkpoint-*"), *self._folder.glob("adapters-*")]:
            if folder not in needed:
                shutil.rmtree(folder)


def by_row(scores: Scores) -> ByRow:
    """Return pairs of a row's number and its mean score over the repeats that have one (None: an outage ended all), the
    form in which checkpoints hold scores."""
    return scores.kept
