"""Weights & Biases: a run in the project that the environment names, or else in one with the program's name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class WandbTracker:
    """A tracker that writes to W&B, configured by its environment variables: WANDB_MODE=offline writes to a folder, for
    `wandb sync`.
    """

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb
        self._run: Any = None
        self._stages: set[str] = set()

    def begin(self, program: str, name: str, params: Mapping[str, Any], kept: str | None) -> str:
        """Begin a run in W&B called `name`, with these parameters, or continue the run with the id `kept` (None: begin
        a new one); return its id. Without a project in the environment it is that called `program`."""
        project = os.environ.get("WANDB_PROJECT") or _name(program)
        self._run = self._wandb.init(project=project, name=name, id=kept, resume="allow", config=dict(params))
        return str(self._run.id)

    def log(self, stage: str, figures: Mapping[str, float], step: int) -> None:
        """Report `figures`, by name, as metrics of a stage (its name and a `/` are put before theirs), with the stage's
        steps as their horizontal axis."""
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._run.log({**{f"{stage}/{name}": value for name, value in figures.items()}, f"{stage}/step": step})

    def keep(self, files: Sequence[Path]) -> None:
        """Store the files as one artifact, named after the run."""
        kept = self._wandb.Artifact(f"optimization-{self._run.id}", type="lmprog")
        for file in files:
            kept.add_file(str(file), name=file.name)
        self._run.log_artifact(kept)

    def end(self, succeeded: bool) -> None:
        """End the run, as finished if the optimization `succeeded`, else as failed, and wait until all its data is
        written."""
        self._run.finish(exit_code=0 if succeeded else 1)


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)
