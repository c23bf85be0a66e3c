"""The options of the `sft` stage, as they stand in a spec."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lmprog.optimizers.grpo.config import Config as GRPO
from lmprog.optimizers.grpo.config import Temperature, Training
from lmprog.optimizers.strategies.best_runs import AtLeast
from lmprog.optimizers.strategies.teachers import Teacher


class Job(BaseModel):
    """The settings of a fine-tuning job, as OpenAI's protocol has them, each with its description; None leaves a choice
    to the provider."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(3, ge=1, le=50, description="times that the job goes through all replies")
    batch: int | None = Field(
        None, ge=1, examples=[8], description="replies of one update; left out: the provider chooses"
    )
    learning_rate_multiplier: float | None = Field(
        None, gt=0, examples=[1.8], description="of the provider's own learning rate; left out: it chooses"
    )
    model: str | None = Field(
        None,
        examples=["gpt-4o-mini-2024-07-18"],
        description="the model that is trained, where the LM names a deployment of it (azure); left out: that of the LM",
    )


class Config(Training):
    """The options of the `sft` stage, each with its description."""

    rows: int = Field(256, ge=1, description="train rows that the program and its teachers are run on")
    samples: int = Field(8, ge=0, description="runs of the program on each of those rows")
    temperature: Temperature | dict[str, Temperature] = Field(
        1.0, description="of those runs, or by module (1.0 for others); running and scoring keep the params of the LM"
    )
    at_least: AtLeast = Field(
        "best",
        description="the score of a run that is learnt from; best: that of the row's best run, above the metric's lowest",
    )
    keep: int = Field(
        4,
        ge=1,
        description="runs of a row that are learnt from, at most: the best of those that differ",
    )
    teachers: list[Teacher] = Field(
        default_factory=list,
        examples=[[{"program": "./big.yaml"}]],
        description="other programs, whose runs are learnt from as those of the program are",
    )
    labelled: int = Field(
        0, ge=0, description="train rows, at most, that are learnt as they stand, where the data labels the module"
    )
    accepted: float = Field(
        0.5,
        ge=0,
        le=1,
        description="of labelled rows with feedback, the score from which an answer is learnt; a correction always is",
    )
    steps: int = Field(40, ge=1, description="updates; they go through all replies as often as it takes")
    batch: int = Field(16, ge=1, description="replies of one update, at most")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="of the learning rate")
    weighting: Literal["tokens", "modules"] = Field(
        "modules", description="modules: each module has the same share of the loss, however long its replies"
    )
    evaluate_every: int = Field(
        10,
        ge=1,
        description="updates between two scorings on dev; the best weights are kept",
    )

    job: Job = Field(
        default_factory=lambda: Job.model_validate({}),
        examples=[{"epochs": 3}],
        description="what a provider is told that trains the weights of an LM behind its API",
    )

    def training(self) -> GRPO:
        """Return the options of the trainer of `grpo` with the values of this stage. Of its options for rollouts only
        `rollouts` counts: it is the number of a teacher's first run."""
        shared = (*Training.model_fields, "steps", "teachers", "schedule", "weighting", "evaluate_every")
        # The number of rollouts is that of a teacher's first run too.
        return GRPO.model_validate({**self.model_dump(include={*shared}), "rollouts": max(2, self.samples), "probe": 0})

    def temperature_of(self, module: str) -> float:
        """Return the temperature at which a module is sampled in the runs that replies are taken from; 1.0 for one that the
        option leaves out."""
        return self.temperature.get(module, 1.0) if isinstance(self.temperature, dict) else self.temperature
