"""The part of a stage of weights that gives the training rows of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.stopwatch import Stopwatch


@dataclass
class SamplerState:
    """The values on which the training rows of later steps depend; checkpoints hold them.

    `taken` counts the examples drawn, `averages` are the running rewards and `levels` the distinct rewards seen, by module;
    for `sft` they keep their defaults.
    """

    taken: int = 0
    """Examples that were taken from the train rows."""
    averages: Mapping[str, float] = field(default_factory=dict)
    """Running averages of the reward, by module."""
    levels: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The values that the rewards have taken (`comparisons.Levels`)."""


@dataclass(frozen=True)
class StepRows:
    """The training rows of one step, and the step's health metrics by name for the journal."""

    rows: list[Row]
    health: Mapping[str, Any]


class RowSource(Protocol):
    """The interface of a source of training rows: rollouts (`grpo`) or replies to imitate (`sft`, where `imitates` is
    True).

    `state` is what checkpoints hold of it, `clock` measures the time of its parts.
    """

    @property
    def config(self) -> Config:
        """The options of the trainer, which are final when the first step begins."""
        ...

    imitates: bool
    """True if the loss of a row is the negative log-likelihood of its reply, and not that of a policy gradient."""
    state: SamplerState
    clock: Stopwatch
    """The clock that splits the time of a step into its parts."""

    async def begin(self) -> bool:
        """Prepare the training, when a run begins it and again when a resumed run goes on with it; return False where
        there is nothing to train on. What needs runs of the program raises ProviderError, MetricFailed and
        BudgetExceeded."""
        ...

    async def before_first_step(self) -> None:
        """Do the preparations that need the weights in training; called before the first step, and not where a run goes on
        from a checkpoint. What the journal has is not done again."""
        ...

    async def rows(self, step: int) -> StepRows:
        """Return the training rows for the update that follows `step`, with the step's health metrics; there may be no
        rows. A source that samples raises ProviderError, MetricFailed, BudgetExceeded and LmprogError."""
        ...

    def params(self) -> dict[str, dict[str, Any]]:
        """Return by module the sampling parameters of the modules in training: `temperature`, `top_p`, `top_k` and
        others that switch truncation off."""
        ...
