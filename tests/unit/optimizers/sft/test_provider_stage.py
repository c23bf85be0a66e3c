"""Several fine-tuning jobs of one stage, which run at the same time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import lmprog
from lmprog.errors import BudgetExceeded
from lmprog.optimizers.sft.chat_replies import Rows
from lmprog.optimizers.sft.config import Job
from lmprog.optimizers.sft.job import ProviderJob
from lmprog.optimizers.sft.provider_stage import ProviderStage

ROWS = Rows(b"", 10, 1_000_000, 0)
PRICE = "price: {input: 1, output: 1, training: 2}"


async def nothing(*args: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(("limit", "sent"), [(11, 0), (12, 2)])
def test_jobs_that_run_at_the_same_time_keep_the_budget_together(
    write_spec, task_of, monkeypatch, limit: float, sent: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    two = f"  judge: {{model: openai/a, {PRICE}}}\n  writer: {{model: openai/b, {PRICE}}}"
    spec = write_spec(("  judge: {model: openai/scripted, context: 4000}\n  writer: {model: openai/writer}", two))
    task = task_of(lmprog.load(spec), {"usd": limit})
    started: list[str] = []

    class Started(Exception):
        """Raised when both jobs have been started, in place of waiting for them."""

    class Recorded(ProviderJob):
        async def _started(self, rows: Rows) -> str:
            started.append(self.lm.id)
            if len(started) == 2:
                raise Started
            await asyncio.sleep(0)
            return "job"

        async def _ended(self, job: str) -> Any:
            await asyncio.Event().wait()

    lms = task.program.plan.lms
    work = [(Recorded(task, lms[id], Job(epochs=3)), ROWS) for id in ("judge", "writer")]  # of 6 dollars each
    stage = object.__new__(ProviderStage)
    stage.task, stage._work = task, lambda replies: work  # type: ignore[method-assign]
    stage.keeper = stage.gathering = SimpleNamespace(begin=nothing, gather=nothing)  # type: ignore[assignment]
    with pytest.raises(Started if sent else BudgetExceeded):
        stage.run()
    assert len(started) == sent
