"""The options of the `fast_slow` stage, as they stand in a spec: all those of `grpo`, and those of its prompt rounds."""

from __future__ import annotations

from pydantic import Field, model_validator

from lmprog.optimizers.grpo.config import Config as Training
from lmprog.optimizers.prompt_search.config import Sources


class Config(Sources, Training):
    """The options of the `fast_slow` stage: those of `grpo`, and those of its prompt rounds, each with its description.

    By default a prompt round takes less than half the runs of the weight steps after it.
    """

    every: int = Field(
        10, ge=1, description="weight steps between two rounds of prompts; rounded up to whole waves of `updates`"
    )
    population: int = Field(4, ge=1, description="candidates that are kept, over which rollouts are spread")
    trials: int = Field(6, ge=1, description="new candidates of a round")
    rows: int = Field(24, ge=1, description="dev rows that a round scores on, at most")
    demo_sets: int = Field(6, ge=1, description="demo sets drawn for each module in each round")
    demos: list[int] = Field([4, 8], min_length=1, description="numbers of demos that are tried")
    bootstrap_rows: int = Field(
        16, ge=0, description="train rows that a round runs the program on, to take demos from its own solved runs"
    )
    proposals: int = Field(
        2,
        ge=0,
        description="instructions for each module that the proposer writes in a round, in the light of the scores",
    )

    @model_validator(mode="after")
    def _in_turn(self) -> Config:
        if self.staleness:
            raise ValueError("`staleness` beside rounds of prompts is not tested; leave it out, or use `grpo`")
        return self
