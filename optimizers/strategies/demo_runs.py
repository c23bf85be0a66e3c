"""The options of stages that take demos from runs on train rows."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lmprog.optimizers.candidate import Demo
from lmprog.optimizers.strategies.best_runs import AtLeast
from lmprog.optimizers.strategies.teachers import Teacher

KNN = "knn"
NUMBERS = (2, 4, 8, 16)
"""Numbers of demos of the pool that a call is shown with `demos: knn`; all of them are tried."""


def most_demos(demos: int | list[int] | str) -> int:
    """Return the largest number of demos in a prompt that a stage's option `demos` allows: a number, the largest of a list,
    or for `knn` 16."""
    return max(NUMBERS) if isinstance(demos, str) else max(demos) if isinstance(demos, list) else demos


def joined(first: Sequence[Demo], more: Sequence[Demo]) -> list[Demo]:
    """Return two lists of demos as one: those of `first`, then those of `more` that are not in it."""
    return [*first, *(demo for demo in more if demo not in first)]


class DemoRuns(BaseModel):
    """The options of a stage for runs that demos are taken from: how many a row, at which temperature and score, and by
    which teachers; each has its description."""

    model_config = ConfigDict(extra="forbid")

    samples: int = Field(
        1, ge=1, description="runs of the program on each row that demos are taken from; several are sampled"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        le=5,
        description="of those runs, where there are several of a row; one run keeps the params of the LM",
    )
    at_least: AtLeast | None = Field(
        None,
        examples=[0.5],
        description="the score of a run that demos are taken from; best: that of the row's best run, above the metric's "
        "lowest; left out: the metric's best",
    )
    teachers: list[Teacher] = Field(
        default_factory=list,
        examples=[[{"program": "./big.yaml"}]],
        description="other programs, whose runs give demos as those of the program do",
    )
