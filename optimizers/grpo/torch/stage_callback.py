"""Report the end of each training step to the stage, with the figures that TRL measured in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters

RECORDED_METRICS = {
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
"""Names of the TRL metrics that are kept, and the names under which they are kept."""


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """A callback of TRL's trainer in the first process: it calls `on_step(step, metrics, seconds by part)` after each step,
    with the metrics of RECORDED_METRICS, and `on_saved(step)` when the trainer has written its part of a checkpoint.

    `clock` measures the seconds, which do not include the scoring of dev rows. Steps count from 1.
    """

    def __init__(
        self,
        clock: Stopwatch,
        on_step: Callable[[int, dict[str, float], dict[str, float]], None],
        on_saved: Callable[[int], None],
    ) -> None:
        self.clock, self.on_step, self.on_saved = clock, on_step, on_saved
        self._split: dict[str, float] = {}

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.clock.start("update")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._split = self.clock.stop()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Call `on_step` with the metrics of a step, by the names of the journal; the trainer logs once after every
        step, when all of them are known. Logs without a loss (None and the summary at the end) are passed over."""
        recorded = {
            RECORDED_METRICS[name]: value
            for name, value in (logs or {}).items()
            if name in RECORDED_METRICS and value is not None
        }
        if "loss" in recorded:
            self.on_step(state.global_step, recorded, self._split)

    def on_save(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        self.on_saved(state.global_step)


class AfterUpdate(TrainerCallback):  # type: ignore[misc]
    """A callback that calls `updated` of `trained` after each update, in every process, before the step is scored and
    logged."""

    def __init__(self, trained: TrainedAdapters) -> None:
        self._trained = trained

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._trained.updated()
