"""The comparison of several programs, models or metrics on the same rows, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.errors import LmprogError
from lmprog.reports.scores import Evaluation, by_group, difference_document, document, feedback, own_failures
from lmprog.scoring.evaluation import Scores, doubt
from lmprog.scoring.small_samples import few
from lmprog.scoring.statistics import Difference, Estimate


@dataclass(frozen=True)
class Matrix:
    """Evaluations (`columns`, at least one) on the same rows by the same metrics; `base` is the number, from 0, of the
    column that the other columns are compared with."""

    columns: Sequence[Evaluation]
    base: int = 0

    @property
    def first(self) -> Evaluation:
        """The evaluation in the first column."""
        return self.columns[0]

    @property
    def metrics(self) -> list[str]:
        """The ids of the metrics, the main one first, the others in the order in which they were named."""
        return list(self.first.metrics)

    def estimate(self, column: Evaluation, metric: str) -> Estimate | None:
        """Return a column's mean score by a metric with its interval; None where the column ended with an error, or no row
        could be scored.
        """
        try:
            return column.metrics[metric].estimate if column.error is None else None
        except LmprogError:
            return None

    def difference(self, column: Evaluation, metric: str) -> Difference | None:
        """Return the paired difference of a column's scores from the base column's, by one metric; None for the base
        column, where one of the two ended with an error, and where no row has both scores."""
        base = self.columns[self.base]
        if column is base or None in (self.estimate(column, metric), self.estimate(base, metric)):
            return None
        try:
            return column.metrics[metric].against(base.metrics[metric])
        except LmprogError:
            return None

    @property
    def remarks(self) -> list[str]:
        """Sentences that warn of all the scores: that the rows are few, and that outages make the comparison doubtful; empty
        where neither holds.
        """
        rows = max((len(column.scores.by_row) for column in self.columns), default=0)
        found = [self.difference(column, metric) for column in self.columns for metric in self.metrics]
        shown = next((each.ci95 for each in found if each is not None and not each.ci95[0] <= 0 <= each.ci95[1]), None)
        scored = {column.name: column.scores for column in self.columns if column.error is None}
        said = [few(rows, shown) if rows else None, doubt(scored) if len(scored) > 1 else None]
        return [remark for remark in said if remark is not None]


def matrix_document(matrix: Matrix) -> dict[str, Any]:
    """Return the comparison as a dictionary: the fields of the first column's evaluation, and in `columns` those of
    each column with its difference from the base column. A column that was not scored has null scores, and where it
    ended with an error `error` says which."""
    return {**_document(matrix, matrix.first), "columns": [_column(matrix, column) for column in matrix.columns]}


def metrics_document(matrix: Matrix, column: Evaluation) -> dict[str, Any]:
    """Return a column's scores by metric, each a dictionary: mean and interval (null where no row was scored), numbers of rows
    and failures, and under `difference` the paired difference from the base column (absent in the base column itself, and
    where no row has both scores).
    """
    found = {}
    for metric, scores in column.metrics.items():
        difference = matrix.difference(column, metric)
        compared = {"difference": difference_document(difference)} if difference is not None else {}
        found[metric] = {**_scored(scores, matrix.estimate(column, metric)), **compared}
    return found


def _column(matrix: Matrix, column: Evaluation) -> dict[str, Any]:
    """Return a column as a dictionary: its evaluation, name and models, its error if any, and its difference from the base."""
    difference = matrix.difference(column, column.scores.metric)
    compared = {"difference": difference_document(difference)} if difference is not None else {}
    failed = {"error": column.error} if column.error is not None else {}
    return {**_document(matrix, column), "name": column.name, "lms": dict(column.models), **failed, **compared}


def _document(matrix: Matrix, column: Evaluation) -> dict[str, Any]:
    """Return a column's evaluation as a dictionary, with null scores where no row was scored."""
    known = matrix.estimate(column, column.scores.metric) is not None
    more = {"metrics": metrics_document(matrix, column)} if len(column.metrics) > 1 else {}
    if known:
        return {**document(column), **more}
    spoken = {"program": column.program.plan.name, "spec": str(column.spec), "split": column.split}
    return {**spoken, "metric": column.scores.metric, **_scored(column.scores, None), **more}


def _scored(scores: Scores, found: Estimate | None) -> dict[str, Any]:
    """Return the scores by one metric as a dictionary; `found` is their mean (None: no row was scored, so that it is null)."""
    counted = {
        name: {kind: {"count": count, "first": first} for kind, (count, first) in causes.items()}
        for name, causes in (("causes", scores.causes), ("failures", scores.failures))
    }
    estimated = found.as_json() if found is not None else {"mean": None, "ci95": None}
    return {**estimated, "n": len(scores.by_row), "errors": len(scores.errors), **counted}


def matrix_lines(matrix: Matrix) -> list[str]:
    """Return the comparison as lines of text: warnings, a table with a row for each column and its differences from the base,
    then for each column costs, failures, and where there is one column alone feedback and the scores by label.
    """
    first = matrix.first
    of = f"the first {len(first.rows)} of {first.of}" if first.of > len(first.rows) else str(len(first.rows))
    base = matrix.columns[matrix.base].name
    head = f"{', '.join(matrix.metrics)} on {of} rows of {first.split}"
    if len(matrix.columns) > 1:
        head += f"; differences are paired, against {base}"
    report = [head, *(f"  {remark}" for remark in matrix.remarks), *_table(matrix)]
    for column in matrix.columns:
        report.append(f"{column.name}: {column.scores.usage}")
        if column.error is not None:
            report.append(f"  not scored: {column.error}")
            continue
        report += [f"  {each}" for each in column.scores.recovered]
        for metric, scores in column.metrics.items():
            report += [f"  {metric}: {line.strip()}" for line in _failures(scores)]
            if scores.judges.lm_calls:
                report.append(f"  {metric}: judges: {scores.judges}")
            if len(matrix.columns) == 1:
                report += [f"  {metric}: {line.strip()}" for line in feedback(scores)]
        report += by_group(column) if column.by is not None or len(matrix.columns) == 1 else []
    return report


def _failures(scores: Scores) -> list[str]:
    """Return a line for each kind of failure by one metric; runs that failed themselves are counted for each metric."""
    left_out = [f"{count} failed ({kind}), not scored: {first}" for kind, (count, first) in scores.causes.items()]
    return [*own_failures(scores.failures), *left_out]


def _table(matrix: Matrix) -> list[str]:
    """Return the lines of the table of scores, `-` where there is none."""
    rows = [["", *matrix.metrics]]
    for column in matrix.columns:
        found = [matrix.estimate(column, metric) for metric in matrix.metrics]
        rows.append([column.name, *("-" if each is None else str(each) for each in found)])
        differences = [matrix.difference(column, metric) for metric in matrix.metrics]
        if any(each is not None for each in differences):
            rows.append(["", *("-" if each is None else str(each) for each in differences)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip() for row in rows
    ]
