"""The options of the `grpo` stage, as they stand in a spec."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoRA(BaseModel):
    """The adapter that is trained (peft's LoraConfig)."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(16, ge=1, description="rank of the two factors")
    alpha: float = Field(32, gt=0, description="scale: the update is multiplied by alpha / rank")
    targets: str | list[str] = Field("all-linear", description="the layers it is added to")


class Config(BaseModel):
    """Defaults as tried on models of less than a billion parameters; docs/optimizers.md has the paper's for 8 billion."""

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(40, ge=1, description="policy-gradient updates")
    examples: int = Field(8, ge=1, description="examples of a step")
    rollouts: int = Field(8, ge=2, description="runs of the program on each example of a step")
    temperature: float = Field(1.0, gt=0, description="of the rollouts; running and scoring keep the params of the LM")
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="of the learning rate")
    beta: float = Field(0.0, ge=0, description="weight of the KL divergence to the base model")
    level: Literal["module", "trajectory"] = Field("module", description="what a member of a group is")
    align: Literal["ragged", "truncate", "fill"] = Field("ragged", description="calls that some runs lack")
    min_group: int = Field(2, ge=1, description="members below which the example's mean is the baseline")
    select: int | None = Field(None, ge=2, description="members of a group that are kept, spread over the rewards")
    baseline: Literal["group", "rollout", "leave_one_out", "module_ema"] = "group"
    scale: Literal["none", "group", "batch", "module"] = "group"
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = Field("dapo", description="as TRL's loss_type")
    max_grad_norm: float = Field(1.0, gt=0)
    format_failure: float | None = Field(
        None, description="reward of a run with a reply that cannot be read; default: the metric's lower end"
    )
    no_signal: Literal["drop", "resample"] = Field(
        "resample", description="examples whose runs all score the same: train without them, or draw others for them"
    )
    resample_waves: int = Field(3, ge=2, description="waves of examples that a step draws at most, with resample")
    evaluate_every: int = Field(10, ge=1, description="steps between two scorings on dev; the best weights are kept")
    tree_tokens: int = Field(4096, ge=256, description="tokens of one forward pass; a larger batch is split")
    lora: LoRA = Field(default_factory=lambda: LoRA.model_validate({}), description="the adapter")
