"""`report_to`: the figures of each step go to transformers' own callbacks; what cannot be reported to is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

from transformers import TrainerCallback
from transformers.integrations import integration_utils

from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.reports import check
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer
from tests.unit.optimizers.grpo.torch.test_trainer import rows, tokenizer

__all__ = ["tokenizer"]


@pytest.mark.slow
def test_the_figures_of_a_step_go_to_the_trackers(tokenizer, tuned_llama, tmp_path: Path, monkeypatch) -> None:
    heard: list[dict[str, float]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            heard.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tracker", Tracker)
    ProgramTrainer(
        TrainedAdapters([(tuned_llama(), "default")]),
        tokenizer,
        Config(steps=2, rollouts=2, report_to=["tracker"]),
        lambda step: rows(),
        tmp_path,
        0,
        [],
        health=lambda: {"reward": 0.25, "modules": {"plan": {"reward": 0.5}}},
    ).train()
    steps = [logs for logs in heard if "loss" in logs]
    assert len(steps) == 2
    assert all(logs["reward"] == 0.25 and logs["modules/plan/reward"] == 0.5 for logs in steps)
    assert all({"entropy", "grad_norm", "clip_ratio/region_mean"} <= logs.keys() for logs in steps)


def test_a_tracker_that_there_is_not_is_refused(monkeypatch) -> None:
    check([], "grpo")
    with pytest.raises(LmprogError, match="sft cannot report to 'wandbb'"):
        check(["wandbb"], "sft")
    monkeypatch.setattr(integration_utils, "get_available_reporting_integrations", lambda: ["mlflow"])
    check(["mlflow"], "grpo")
    with pytest.raises(LmprogError, match="'wandb', which is not installed: pip install wandb"):
        check(["wandb"], "grpo")
