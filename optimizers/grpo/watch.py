"""What the stage learns from the trainer's loop: the end of each step, and what TRL measured in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from lmprog.optimizers.grpo.stage import WeightStage

KEPT = ("loss", "grad_norm", "learning_rate", "entropy", "kl", "clip_ratio/region_mean")


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the stage of each finished step, with its seconds (dev scoring left out)."""

    def __init__(self, stage: WeightStage) -> None:
        self.stage = stage
        self._started = 0.0
        self._seconds = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._seconds = time.perf_counter() - self._started

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The trainer logs once after every step, so this is where a step's figures are all known."""
        found = {
            name.split("/")[0]: value for name, value in (logs or {}).items() if name in KEPT and value is not None
        }
        if "loss" in found:
            self.stage.end_of_step(state.global_step, found, self._seconds)

    def on_save(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        self.stage.saved(state.global_step)
