"""The interface of experiment trackers, and those that there are. Their modules are imported where one is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from lmprog.extras import require


class Tracker(Protocol):
    """The interface of a client of MLflow or W&B, which keep parameters, metrics and files; an optimization is one run there.

    `begin` is called first, then `log` and `keep` any number of times, then `end`. What `begin` raises ends the
    optimization before any LM call; what another raises is reported once, nothing more is called, and the optimization goes
    on.
    """

    def begin(self, program: str, name: str, params: Mapping[str, Any], kept: str | None) -> str:
        """Begin a run of the service for the program named `program`, or continue the run with the id `kept` (None: begin);
        return its id.

        `name` is the run's name there, and `params` are parameters to keep with it, by name. May raise anything.
        """

    def log(self, stage: str, figures: Mapping[str, float], step: int) -> None:
        """Report metrics (`figures`, finite numbers by name) of a stage (as `2-grpo`, or `run` for the whole) at its step, or
        its number of a trial, `step`."""

    def keep(self, files: Sequence[Path]) -> None:
        """Store copies of files with the run of the service."""

    def end(self, succeeded: bool) -> None:
        """End the run of the service, as succeeded or as failed."""


HOMES = {
    "mlflow": "lmprog.optimizers.trackers.mlflow_tracker:MLflowTracker",
    "wandb": "lmprog.optimizers.trackers.wandb_tracker:WandbTracker",
}


def tracker(name: str) -> Tracker:
    """Return the tracker named `name` (`mlflow`, `wandb`). Raises MissingExtra where its package is not installed."""
    require([name], f"`report_to: [{name}]`")
    module, _, attribute = HOMES[name].partition(":")
    made: Tracker = getattr(import_module(module), attribute)()
    return made
