"""The options of the `gepa` stage, as they stand in a spec."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from lmprog.optimizers.strategies.repeats import Repeats


class Config(BaseModel):
    """The options of the `gepa` stage, each with its description."""

    model_config = ConfigDict(extra="forbid")

    max_metric_calls: int = Field(600, ge=1, description="runs of the program in the search, over train and dev rows")
    minibatch: int = Field(4, ge=1, description="train rows of one reflection")
    pareto_rows: int = Field(64, ge=1, description="dev rows of the Pareto front, at most")
    merges: int = Field(5, ge=0, description="times that two candidates of the front are merged; 0 leaves merging out")
    finalists: int = Field(4, ge=1, description="candidates that are scored on all dev rows at the end")
    repeats: Repeats = 1
