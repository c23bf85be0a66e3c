"""The interface of experiment trackers, and those that there are. Their modules are imported where one is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from lmprog.extras import require


class Tracker(Protocol):
    """A service that keeps the parameters, figures and files of runs: one run of it for one optimization."""

    def begin(self, program: str, name: str, params: Mapping[str, Any], kept: str | None) -> str:
        """Begin a run of the tracker, or go on with the run `kept`; return its id there."""

    def log(self, stage: str, figures: Mapping[str, float], step: int) -> None:
        """Report figures of a stage after a step of it."""

    def keep(self, files: Sequence[Path]) -> None:
        """Store files with the run."""

    def end(self, succeeded: bool) -> None:
        """End the run."""


HOMES = {
    "mlflow": "lmprog.optimizers.trackers.mlflow_tracker:MLflowTracker",
    "wandb": "lmprog.optimizers.trackers.wandb_tracker:WandbTracker",
}


def tracker(name: str) -> Tracker:
    """Return a tracker by its name. Raises MissingExtra where its package is not installed."""
    require([name], f"`report_to: [{name}]`")
    module, _, attribute = HOMES[name].partition(":")
    made: Tracker = getattr(import_module(module), attribute)()
    return made
