"""The columns of `lmprog eval`: programs and models that are scored on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmprog.errors import LmprogError
    from lmprog.reports.scores import Evaluation
    from lmprog.runtime.program import Program
    from lmprog.runtime.runner import Runner
    from lmprog.scoring.evaluation import RowScore


@dataclass(frozen=True)
class Column:
    """A program to score: its file (`spec`), the loaded program with its models, and of these, by LM, the ones of LMs for which
    several models are compared (`models`, for the column's name).
    """

    spec: Path
    models: Mapping[str, str]
    program: Program

    def on(self, runner: Runner) -> Column:
        """Return the column with the runs of its program made by `runner`, as on a cluster."""
        return replace(self, program=self.program.with_runner(runner))


@dataclass(frozen=True)
class Plan:
    """The rows, metrics and options of an evaluation, which hold for all columns: the name of the split, the rows to score, the
    ids of the metrics, the main one first, and in `how` the repeats, run options and concurrency.
    """

    split: str
    rows: Sequence[Mapping[str, Any]]
    of: int
    """The number of rows of the split, of which `rows` may be only the first."""
    metrics: tuple[str, ...]
    by: str | None
    """The column of the rows to group scores by; None: the label that the metric compares an output with."""
    how: Mapping[str, Any]
    """Options of `lmprog.scoring.evaluation.evaluate` by name: `repeats`, `options` and `concurrency`."""


def columns_of(
    specs: Sequence[Path], lms: Mapping[str, Sequence[str]], overrides: dict[str, Any], budget: Any
) -> list[Column]:
    """Load each program, in the order of `specs` and each file once, for each combination of models, the first models first;
    return the columns.

    `lms` has the models to try by LM, `overrides` are values laid over each spec, and `budget` (a Budget) limits all
    columns together (None: no limit). Raises SpecError for a program with errors, and for an LM that a program lacks.
    """
    from lmprog.runtime.program import load

    found = []
    compared = [id for id, models in lms.items() if len(models) > 1]
    for spec in dict.fromkeys(specs):
        for chosen in product(*lms.values()):
            models = dict(zip(lms, chosen, strict=True))
            program = load(spec, lms=models, overrides=overrides)
            program = program.with_budget(budget) if budget is not None else program
            found.append(Column(spec, {id: models[id] for id in compared}, program))
    return found


def score(column: Column, plan: Plan, on_row: Callable[[RowScore], None]) -> Evaluation:
    """Score a column on the rows and by all metrics of the plan, with a progress bar on a terminal; tools may write. Return the
    evaluation. `on_row` is called with each scored run.

    Raises MetricFailed where a metric raises on every row, and other errors that no run counts for, such as BudgetExceeded.
    """
    from lmprog.cli.row_progress import RowProgress
    from lmprog.reports.scores import Evaluation
    from lmprog.scoring.evaluation import evaluate

    name = ", ".join([str(column.spec), *(f"{id}={model}" for id, model in column.models.items())])
    with RowProgress(name, len(plan.rows) * plan.how["repeats"]) as progress:

        def tell(row: RowScore) -> None:
            progress.advance()
            on_row(row)

        found = evaluate(column.program, plan.rows, plan.metrics, **plan.how, on_row=tell, allow_writes=True)
    for scores in found.values():
        scores.checked()
    first, *others = plan.metrics
    more = {id: found[id] for id in others}
    return Evaluation(
        column.program, column.spec, plan.split, plan.rows, plan.of, found[first], plan.by, more, column.models
    )


def unscored(column: Column, plan: Plan, error: LmprogError) -> Evaluation:
    """Return the evaluation of a column whose scoring ended with an error: without scores, and with the error's text."""
    from lmprog.reports.scores import Evaluation
    from lmprog.scoring.evaluation import Scores

    first, *others = (Scores(id, ()) for id in plan.metrics)
    more = {scores.metric: scores for scores in others}
    where = (column.program, column.spec, plan.split, plan.rows, plan.of)
    return Evaluation(*where, first, plan.by, more, column.models, str(error))
