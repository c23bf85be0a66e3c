"""Which dev rows choose between candidates, and which only confirm the choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import Field

from lmprog.compiler.bounds import held_rows
from lmprog.optimizers.optimizer import Row
from lmprog.seeds import derive

Repeats = Annotated[
    int,
    Field(
        ge=1,
        description="times that each of those rows is run; more where replies are sampled, so that chance decides less",
    ),
]
"""An option of all stages that confirm their finalists on the dev rows held back, which the option before it names."""


class RowSampler(Protocol):
    """Splits dev rows into those that a search looks at and those that it is judged by; they share no row."""

    def split(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """(searched, held); `held` is empty where there are too few rows for both."""
        ...


class Halves:
    """One half of the shuffled rows each; of the searched half at most `at_most` rows are used."""

    def __init__(self, seed: int, at_most: int | None = None) -> None:
        self.seed, self.at_most = seed, at_most

    def split(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        shuffled = list(rows)
        random.Random(derive(self.seed, "dev")).shuffle(shuffled)
        half = len(shuffled) - held_rows(len(shuffled))
        return shuffled[:half][: self.at_most], shuffled[half:]


def sizes(dev: int, at_most: int | None = None) -> tuple[int, int]:
    """How many of `dev` rows `Halves` searches and holds back."""
    held = held_rows(dev)
    return (dev - held if at_most is None else min(dev - held, at_most)), held
