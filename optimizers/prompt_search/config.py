"""The options of the `prompt_search` stage, as they stand in a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmprog.optimizers.strategies.demo_runs import DemoRuns
from lmprog.optimizers.strategies.repeats import AtOnce, Repeats


class Sources(BaseModel):
    """The options that say where instructions and demos to choose from come from, each with its description;
    `fast_slow` has them too."""

    model_config = ConfigDict(extra="forbid")

    demos: Annotated[list[int], Field(min_length=1)] | Literal["knn"] = Field(
        [4, 8, 16],
        description="numbers of demos that are tried; knn: each call is shown the demos that are nearest to its inputs",
    )
    bootstrap_rows: int = Field(
        32, ge=0, description="train rows that the program is run on, to take demos from its own solved runs"
    )
    proposals: int = Field(
        6,
        ge=0,
        description="instructions for each module that the proposer writes, where there is one; half of them when half of "
        "the trials are scored, in the light of the scores",
    )


class Config(Sources, DemoRuns):
    """The options of the `prompt_search` stage, each with its description."""

    trials: int = Field(
        24,
        ge=1,
        description="combinations of instructions, demos and layouts that are scored on a minibatch of dev rows",
    )
    minibatch: int = Field(
        16,
        ge=1,
        description="dev rows that every trial is scored on; the better half goes on to twice as many, and so on",
    )
    demo_sets: int | None = Field(
        None,
        ge=1,
        examples=[16],
        description="demo sets drawn for each module, beside those it has; left out: one for each trial, 12 at least",
    )
    finalists: int = Field(
        4, ge=1, description="candidates that come to all dev rows; with `repeats` they are run again so often"
    )
    repeats: Repeats = 1
    at_once: AtOnce = 1
