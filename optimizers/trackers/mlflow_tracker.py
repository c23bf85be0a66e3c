"""MLflow: a run in the experiment that the environment names, or else in one with the program's name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST = 500
"""Characters of a parameter that every version of MLflow takes."""


class MLflowTracker:
    """A tracker that writes to the MLflow server or store of `MLFLOW_TRACKING_URI`, else to MLflow's default.

    To make one sets MLflow's variables for retries (1) and the timeout of a request (10 s), where the environment does not.
    """

    def __init__(self) -> None:
        # MLflow's own patience with a server that is down is minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._run = ""

    def begin(self, program: str, name: str, params: Mapping[str, Any], kept: str | None) -> str:
        """Begin a run in MLflow called `name`, with these parameters cut after LONGEST (500) characters, or open the run with
        the id `kept` again (None: begin a new one); return its id. Without an experiment in the environment it is that called
        `program`, which is made if it does not exist."""
        if kept is not None:
            self._run = kept
            self._client.update_run(kept, status="RUNNING")
            return kept
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment(
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or program
        )
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in params.items():
            self._client.log_param(self._run, key, str(value)[:LONGEST])
        return self._run

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def log(self, stage: str, figures: Mapping[str, float], step: int) -> None:
        """Report `figures`, by name, as metrics of a step; the stage and a `/` are put before their names."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{stage}/{name}", value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def keep(self, files: Sequence[Path]) -> None:
        """Store files as artefacts of the run."""
        for file in files:
            self._client.log_artifact(self._run, str(file))

    def end(self, succeeded: bool) -> None:
        """Set the run's state to FINISHED if the optimization `succeeded`, else to FAILED."""
        self._client.set_terminated(self._run, "FINISHED" if succeeded else "FAILED")
