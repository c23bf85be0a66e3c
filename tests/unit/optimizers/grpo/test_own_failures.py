"""What becomes of a run of the `grpo` stage whose tool raises on what the model said."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.stage import grpo_stage


def test_training_pushes_down_what_its_tool_refuses(research, tmp_path: Path) -> None:
    """A wave of the `grpo` stage itself: the calls before the failure are rows of the step, with what was said in them."""
    task = research(tmp_path)
    refusing = (
        "def enough(query: str) -> bool:\n    if sum(map(ord, query)) % 3 == 0:\n        raise ValueError(query)\n"
    )
    metrics = (tmp_path / "metrics.py").read_text()
    (tmp_path / "metrics.py").write_text(metrics.replace("def enough(query: str) -> bool:\n", refusing))
    stage = grpo_stage(task, Config(rollouts=6, examples=3, no_signal="drop", format_failure=-1.0))
    with stage.runner:
        rows = stage.rows(0)
    assert stage.health["failed"].keys() <= {"tool", "unreadable"} and stage.health["failed"]["tool"] > 0
    assert stage.health["lost"] == 0 and stage.health["without_signal"] < stage.health["examples"]
    assert {row.module for row in rows} >= {"query"} and any(row.advantage < 0 for row in rows)
