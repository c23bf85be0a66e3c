"""The options of the `grpo` stage, as they stand in a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lmprog.optimizers.strategies.repeats import Repeats
from lmprog.optimizers.strategies.teachers import Teacher


class LoRA(BaseModel):
    """The shape of the adapter that is trained, as in peft's LoraConfig: its rank, its scale (`alpha` / `rank`), and
    the layers that it is added to (`targets`)."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(16, ge=1, description="rank of the two factors")
    alpha: float = Field(32, gt=0, description="scale: the update is multiplied by alpha / rank")
    targets: str | list[str] = Field("all-linear", description="the layers it is added to")


Temperature = Annotated[float, Field(gt=0, le=5)]
MAX_RATIO = 5.0
"""Default `epsilon_high` of `cispo` (arXiv 2510.13786), for which it is the highest ratio, no distance from 1."""


class Training(BaseModel):
    """The options of every stage that trains weights, each with its description; defaults as tried on models of less
    than a billion parameters."""

    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(2e-4, gt=0, le=0.1, description="the learning rate of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="the norm to which a gradient is clipped")
    repeats: Repeats = 1
    checkpoint_every: int = Field(1, ge=1, description="steps between two checkpoints, from which --resume goes on")
    credit: int = Field(
        8, ge=0, description="dev rows of the credit report that ends the stage, where the program has several modules"
    )
    report_to: list[str] = Field(
        default_factory=list,
        examples=[["wandb"]],
        description="trackers that the figures of each step are sent to, as TRL names them: wandb",
    )
    tree_tokens: int = Field(
        4096, ge=256, description="tokens of one forward and backward pass; what does not fit goes after it"
    )
    full: bool = Field(
        False,
        description="train all weights of the model in place of an adapter; a model in a folder of its own comes out, which "
        "the overlay names. With several processes only with --fsdp",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="compute the activations of layers again in the backward pass, which takes less memory and more time; "
        "no effect where the engine's fused layers compute the pass (Llama's shape, on a CPU, each process with the whole "
        "model), which keep few of them",
    )
    lora: LoRA = Field(
        default_factory=lambda: LoRA.model_validate({}), examples=[{"rank": 8}], description="the adapter"
    )

    @model_validator(mode="after")
    def _adapters(self) -> Training:
        if self.full and self.lora != LoRA.model_validate({}):
            raise ValueError("`lora` is the shape of an adapter, and `full: true` trains none; leave one of them out")
        return self


class Config(Training):
    """The options of the `grpo` stage, each with its description; docs/optimizers.md has the values of the paper for a
    model of 8 billion parameters."""

    steps: int = Field(40, ge=1, description="policy-gradient updates")
    examples: int = Field(8, ge=1, description="examples of a step")
    rollouts: int = Field(8, ge=2, description="runs of the program on each example of a step")
    teachers: list[Teacher] = Field(
        default_factory=list,
        examples=[[{"program": "./big.yaml"}]],
        description="other programs, whose runs join the groups of an example",
    )
    temperature: Literal["auto"] | Temperature | dict[str, Temperature] = Field(
        "auto",
        description="of the rollouts, or by module (1.0 for others); auto takes it from the probe, 1.0 without one; "
        "running and scoring keep the params of the LM",
    )
    probe: int = Field(
        16,
        ge=0,
        description="train rows that are run greedily and sampled before the first step, to see what can be learnt",
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="of the learning rate")
    beta: float = Field(0.0, ge=0, description="weight of the KL divergence to the base model")
    level: Literal["module", "trajectory"] = Field("module", description="what a member of a group is")
    align: Literal["ragged", "truncate", "fill"] = Field("ragged", description="calls that some runs lack")
    min_group: int = Field(2, ge=1, description="members below which the example's mean is the baseline")
    select: int | None = Field(
        None, ge=2, examples=[4], description="members of a group that are kept, spread over the rewards"
    )
    baseline: Literal["group", "rollout", "leave_one_out", "module_ema"] = Field(
        "group",
        description="what an advantage is measured from: the mean of the group, of the run, of the others of the "
        "group, or of the module's steps so far",
    )
    scale: Literal["none", "group", "batch", "module"] | None = Field(
        None,
        examples=["batch"],
        description="what advantages are divided by; left out: group for rewards of two values, none for graded ones",
    )
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo"] = Field("dapo", description="as TRL's loss_type")
    weighting: Literal["tokens", "modules"] = Field(
        "modules", description="modules: each module has the same share of the loss, however long its replies"
    )
    normalise: Literal["kept", "all"] = Field(
        "kept", description="what the loss is a mean over: the rows of groups with a signal, or all rows of the step"
    )
    overlong: Literal["train", "mask", "penalty"] = Field(
        "train", description="replies that max_tokens cuts: train them, leave them out, or have length cost reward"
    )
    staleness: int = Field(
        0,
        ge=0,
        le=8,
        description="steps by which the weights that sample may be behind those that are trained: the waves of so many next "
        "steps are sampled on servers while one is trained; 0 samples and trains in turn",
    )
    updates: int = Field(1, ge=1, description="updates on one wave of rollouts; all but the first are off policy")
    epsilon: float = Field(0.2, gt=0, lt=1, description="how far off policy a ratio counts, below 1")
    epsilon_high: float | None = Field(
        None,
        gt=0,
        examples=[0.28],
        description="and above 1 (as epsilon where left out); with cispo the highest ratio itself (5.0)",
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="whether a ratio is that of a token, or of a whole reply (GSPO)"
    )
    importance_sampling_cap: float = Field(
        2.0,
        ge=1,
        description="the most that a token counts for being likelier in training than where it was sampled",
    )
    format_failure: float | None = Field(
        None,
        examples=[0],
        description="reward of a run that fails by itself, as where a reply cannot be read; default: the metric's lower end",
    )
    no_signal: Literal["drop", "resample"] = Field(
        "resample", description="examples whose runs all score the same: train without them, or draw others for them"
    )
    resample_waves: int = Field(3, ge=2, description="waves of examples that a step draws at most, with resample")
    evaluate_every: int = Field(10, ge=1, description="steps between two scorings on dev; the best weights are kept")

    @model_validator(mode="after")
    def _caps(self) -> Config:
        if self.loss == "cispo" and self.highest_ratio < 1:
            raise ValueError(
                f"with `loss: cispo` epsilon_high is the highest ratio itself, and {self.epsilon_high} would cut every "
                f"update; leave it out, or write {MAX_RATIO}"
            )
        return self

    @model_validator(mode="after")
    def _sampled_ahead(self) -> Config:
        if self.staleness and (self.teachers or self.updates > 1):
            other = "teachers" if self.teachers else "updates"
            raise ValueError(f"`staleness` beside `{other}` is not tested; leave one of them out")
        return self

    @model_validator(mode="after")
    def _full(self) -> Config:
        if self.full and (self.beta or self.staleness):
            other = "beta" if self.beta else "staleness"
            raise ValueError(f"`{other}` beside `full: true` is not tested; leave one of them out")
        return self

    @property
    def highest_ratio(self) -> float:
        """TRL's `epsilon_high`: how far above 1 a probability ratio counts, or with `loss: cispo` the highest ratio itself.

        Where the option `epsilon_high` is left out it is `epsilon`, with `cispo` MAX_RATIO (5.0).
        """
        if self.epsilon_high is not None:
            return self.epsilon_high
        return MAX_RATIO if self.loss == "cispo" else self.epsilon

    def temperature_of(self, module: str) -> float:
        """Return the sampling temperature of a module's rollouts, which is also the temperature of its loss; 1.0 where
        the options set none for it, or say `auto` (the probe puts the temperature that it finds in the place of
        `auto`)."""
        if isinstance(self.temperature, dict):
            return self.temperature.get(module, 1.0)
        return 1.0 if self.temperature == "auto" else self.temperature
