"""The credit report at the end of a stage of weights: how much of the reward's variance each module accounts for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.bounds import bounds
from lmprog.errors import LmprogError
from lmprog.optimizers.call_counts import CREDIT_RUNS
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.seeds import derive


async def report_credit(
    task: Task, program: Program, rows: int, params: Mapping[str, Mapping[str, Any]], format_failure: float
) -> None:
    """Write a credit report of `program` on the first `rows` of the choosing dev rows to the journal, once even if the run is
    resumed, and show it.

    Runs are sampled as rollouts are, with `params` laid over each module's own, and own failures have the reward
    `format_failure`. There is no report where `rows` is 0 or the program has one module, whose share is 1, and only a note
    where a budget or a failure prevents it.
    """
    from lmprog.credit.variance import measure

    if not rows or not _several(program):
        return

    async def measured() -> dict[str, Any]:
        options = RunOptions(seed=derive(task.seed, "credit"), module_params=params, retry=False)
        found = await measure(
            program, task.dev[:rows], task.metric, repeats=CREDIT_RUNS, options=options, format_failure=format_failure
        )
        return found.as_json()

    try:
        found = await task.journal.once("credit", measured)
    except LmprogError as error:
        task.journal.note(f"no credit report: {error}")
    else:
        task.journal.tell("credit", **found)


def _several(program: Program) -> bool:
    return len(bounds(program.plan).calls) > 1
