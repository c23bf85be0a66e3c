"""Evaluations as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import Scores
from lmprog.scoring.statistics import Difference
from lmprog.scoring.tables import Group, by_column, confusions, labels_of

FEW = 30
"""Most groups of a table that is shown unasked."""
SHOWN = 5
"""Most confusions, and most words of feedback, that a person is shown."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a program (its file: `spec`) on rows of a split, which has `of` rows in all.

    `by` is the column to group scores by (None: the label that the metric compares with), `more` has the scores by
    further metrics, and `models` the models that replace the program's own, by LM. `error` says why there are no
    scores; None where there are.
    """

    program: Program
    spec: Path
    split: str
    rows: Sequence[Mapping[str, Any]]
    of: int
    scores: Scores
    by: str | None = None
    """The column whose values the scores are grouped by, where somebody has named it."""
    more: Mapping[str, Scores] = field(default_factory=dict)
    """The scores by other metrics."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The models that take the place of the program's own, by LM, where several are compared."""
    error: str | None = None
    """The reason why the program was not scored; None where it was."""

    @property
    def name(self) -> str:
        """The name in a comparison: the file, and the models that replace its own."""
        return ", ".join([str(self.spec), *(f"{id}={model}" for id, model in self.models.items())])

    @property
    def metrics(self) -> dict[str, Scores]:
        """The scores by metric id, with the first metric included."""
        return {self.scores.metric: self.scores, **self.more}

    def groups(self) -> tuple[str, list[Group]] | None:
        """Return a column's name and the mean score for each of its values; None where there is no such column.

        The column is the one that was named, else the label that the metric compares an output with.
        """
        labels = labels_of(self.program.plan, self.scores.metric)
        column = self.by or (labels.column if labels is not None else None)
        if column is None:
            return None
        found = by_column(self.scores, self.rows, column, labels)
        return (column, found) if self.by is not None or 1 < len(found) <= FEW else None

    def confusions(self) -> list[tuple[Any, Any, int]]:
        """Return the labels taken for others: `(wanted, predicted, number of runs)`, the most frequent first."""
        labels = labels_of(self.program.plan, self.scores.metric)
        return confusions(self.scores, self.rows, labels) if labels is not None else []


def document(shown: Evaluation) -> dict[str, Any]:
    """Return the evaluation as a dictionary: `program`, `spec`, `split`, `metric`, mean and interval, `n`,
    `unreadable`, `errors`, `causes` and `failures` by kind, `usage`, and where there are any `of`, `recovered`, `judges`,
    `by` and `confusions`."""
    scores, part = shown.scores, {"of": shown.of} if shown.of > len(shown.rows) else {}
    found = {
        "program": shown.program.plan.name,
        "spec": str(shown.spec),
        "split": shown.split,
        **part,
        "metric": scores.metric,
        **scores.estimate.as_json(),
        "n": len(scores.by_row),
        "unreadable": scores.unreadable,
        "errors": len(scores.errors),
        "causes": {kind: {"count": count, "first": first} for kind, (count, first) in scores.causes.items()},
        "failures": {kind: {"count": count, "first": first} for kind, (count, first) in scores.failures.items()},
        "usage": scores.usage.as_json(),
    }
    if scores.recovered:
        found["recovered"] = [each.as_json() for each in scores.recovered]
    if scores.judges.lm_calls:
        found["judges"] = scores.judges.as_json()
    if (groups := shown.groups()) is not None:
        found["by"] = {"column": groups[0], "groups": [group.as_json() for group in groups[1]]}
    if wrong := shown.confusions():
        found["confusions"] = [{"wanted": wanted, "said": said, "count": count} for wanted, said, count in wrong]
    return found


def lines(shown: Evaluation) -> list[str]:
    """Return an evaluation as lines of text: the score with its interval, the failures, calls and cost behind it, and the
    table of scores by label.
    """
    scores = shown.scores
    of = f"the first {len(shown.rows)} of {shown.of}" if shown.of > len(shown.rows) else str(len(scores.by_row))
    report = [f"{shown.spec}: {scores.metric} {scores.estimate} on {of} rows of {shown.split}"]
    report += own_failures(scores.failures)
    for kind, (count, first) in scores.causes.items():
        report.append(f"  {_runs(count)} failed ({kind}) and {'is' if count == 1 else 'are'} not scored: {first}")
    report += [f"  {each}" for each in scores.recovered]
    report.append(f"  {scores.usage}")
    if scores.usage.forgiven:
        report.append("  forgiven in replies: " + _counted(scores.usage.forgiven))
    if scores.judges.lm_calls:
        report.append(f"  judges: {scores.judges}")
    return report + by_group(shown) + feedback(scores)


def by_group(shown: Evaluation) -> list[str]:
    """Return as lines of text the table of scores by a column's values, and the labels taken for others; empty where there
    is no such column.
    """
    groups = shown.groups()
    report = _table(*groups, shown.scores.metric) if groups is not None else []
    wrong = [
        f"{wanted} -> {'(unreadable)' if said is None else said} ({count})"
        for wanted, said, count in shown.confusions()
    ]
    if wrong:
        more = f", and {len(wrong) - SHOWN} others" if len(wrong) > SHOWN else ""
        report.append(f"  most often taken for another: {', '.join(wrong[:SHOWN])}{more}")
    return report


def own_failures(failures: Mapping[str, tuple[int, str]]) -> list[str]:
    """Return a line of text for each kind of own failure, with its number of runs and the first message."""
    found = []
    for kind, (count, first) in failures.items():
        if kind == "unreadable":
            found.append(f"  {count} replies could not be read (scored lowest)")
        else:
            found.append(f"  {_runs(count)} failed ({kind}) and scored lowest: {first}")
    return found


def difference_line(difference: Difference) -> str:
    """Return a paired difference as text, with the number of rows that it comes from."""
    rows = difference_document(difference)
    counts = ", ".join(f"{rows[name]} {name}" for name in ("better", "worse", "equal"))
    return f"difference, paired: {difference}; of {difference.n} rows {counts}"


def difference_document(difference: Difference) -> dict[str, Any]:
    """Return a paired difference as a dictionary: mean, interval, p value, and the numbers of rows: `n`, `better`,
    `worse` and `equal`."""
    equal = difference.n - difference.better - difference.worse
    rows = {"n": difference.n, "better": difference.better, "worse": difference.worse, "equal": equal}
    return {**difference.as_json(), **rows}


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({count})" for what, count in counts.items())


def _table(column: str, groups: Sequence[Group], metric: str) -> list[str]:
    names = [str(group.value) for group in groups]
    width = max(map(len, [*names, f"by {column}"]))
    precise = any(group.precision is not None for group in groups)
    found = [f"  {'by ' + column:<{width}}  {'n':>5}  {metric:<22}" + ("precision" if precise else "")]
    for name, group in zip(names, groups, strict=True):
        precision = "" if group.precision is None else f"{100 * group.precision:.1f}%"
        found.append(f"  {name:<{width}}  {group.estimate.n:>5}  {group.estimate!s:<22}{precision}")
    return [line.rstrip() for line in found]


def feedback(scores: Scores) -> list[str]:
    """Return the metric's feedback on the lowest scores, as lines of text."""
    with_feedback = [
        row for row in scores.rows if row.feedback and row.value is not None and row.result.outputs is not None
    ]
    lowest = sorted(with_feedback, key=lambda row: row.value or 0.0)[:SHOWN]
    return [f"  row {row.row}, {row.value:.2f}: {' '.join((row.feedback or '').split())[:200]}" for row in lowest]
