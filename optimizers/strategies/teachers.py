"""Teachers: other programs that a stage runs beside the one it tunes, to learn from their replies. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from lmprog.compiler.same_lm import twin
from lmprog.optimizers.run_counts import TEACHER_ROLLOUTS
from lmprog.scoring.data import rows_of

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan
    from lmprog.runtime.program import Program


class Teacher(BaseModel):
    """The options of a teacher program in a spec: its path (`program`), and the number of its runs on each row
    (`rollouts`)."""

    model_config = ConfigDict(extra="forbid")

    program: str = Field(
        examples=["./big.yaml"],
        description="its spec: the modules that are tuned have there the same inputs and outputs",
    )
    rollouts: int = Field(TEACHER_ROLLOUTS, ge=1, description="its runs on each row, beside those of the program")


def beside(program: Program, path: str) -> Program:
    """Return the teacher program of the spec at `path` (as the option `teachers` writes it), which was compiled with
    that of `program`; nothing that is tuned in `program` is in it.

    Its calls are charged to the budget of `program`, and its runs traced as those are. An LM of it that is declared as one of
    `program` is that very one.
    """
    assert program.plan.optimize is not None
    plan = program.plan.optimize.teachers[path]
    resources = replace(program.resources)
    lms = {}
    for id, lm in plan.lms.items():
        found = twin(lm, program.plan.lms)
        lms[id] = resources.lm(lm) if found is None else program.lms[found]
    # Its runs are runs of this optimization, and traced as those are.
    return replace(program, plan=replace(plan, export=program.plan.export), lms=lms, resources=resources)


def runs_of_teachers(program: Program, teachers: Sequence[Teacher], rows: int) -> list[tuple[Plan, int]]:
    """Return the plans of the teachers, each with the largest number of its runs on at most `rows` train rows; empty where
    the stage has none. Raises RowsError where the train rows cannot be read."""
    block = program.plan.optimize
    if block is None or not teachers:
        return []
    most = min(rows, len(rows_of(program.plan, block.train)))
    return [(block.teachers[teacher.program], most * teacher.rollouts) for teacher in teachers]
