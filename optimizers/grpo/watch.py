"""What the stage learns from the trainer's loop: the end of each step, and what TRL measured in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from lmprog.optimizers.grpo.stage import WeightStage

KEPT = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "kl": "kl",
    "clip_ratio/region_mean": "clip_ratio",
    "clip_ratio/low_mean": "clip_ratio_low",
    "clip_ratio/high_mean": "clip_ratio_high",
    "cispo_clip_ratio": "clip_ratio",
    "sampler/mismatch": "mismatch",
    "sampler/mismatch_max": "mismatch_max",
    "sampler/mismatch_outside": "mismatch_outside",
    "sampler/truncated": "truncated",
}
"""What is kept of TRL's figures, and under which name."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the stage of each finished step, with the split of its seconds (dev scoring left out)."""

    def __init__(self, stage: WeightStage) -> None:
        self.stage = stage
        self._split: dict[str, float] = {}

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.stage.clock.start("update")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._split = self.stage.clock.stop()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The trainer logs once after every step, so this is where a step's figures are all known."""
        found = {KEPT[name]: value for name, value in (logs or {}).items() if name in KEPT and value is not None}
        if "loss" in found:
            self.stage.end_of_step(state.global_step, found, self._split)

    def on_save(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        self.stage.saved(state.global_step)
