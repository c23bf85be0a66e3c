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
"""The most groups of a table of scores by label that is shown although no column was named."""
SHOWN = 5
"""The most confusions, and the most rows with feedback, that are shown as text."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a program (its file: `spec`) on `rows` of a split, which has `of` rows in all; `scores` are those by the
    main metric.
    """

    program: Program
    spec: Path
    split: str
    rows: Sequence[Mapping[str, Any]]
    of: int
    scores: Scores
    by: str | None = None
    """The column that was named to group the scores by its values; None: the label that the metric compares an output with."""
    more: Mapping[str, Scores] = field(default_factory=dict)
    """The scores by the other metrics, by their ids."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The models in place of the program's own, by LM, for LMs of which several models are compared."""
    error: str | None = None
    """The reason why the program was not scored; None where it was."""

    @property
    def name(self) -> str:
        """The name of the column in a comparison: the file, and `models`."""
        return ", ".join([str(self.spec), *(f"{id}={model}" for id, model in self.models.items())])

    @property
    def metrics(self) -> dict[str, Scores]:
        """The scores by metric id, those by the main metric first."""
        return {self.scores.metric: self.scores, **self.more}

    def groups(self) -> tuple[str, list[Group]] | None:
        """Return the name of the column `by`, else of the label that the metric compares an output with, and the scores
        for each of its values. None where neither is there, and for a label with one value or more than FEW (30).
        Raises UsageError where no row has the column."""
        labels = labels_of(self.program.plan, self.scores.metric)
        column = self.by or (labels.column if labels is not None else None)
        if column is None:
            return None
        found = by_column(self.scores, self.rows, column, labels)
        return (column, found) if self.by is not None or 1 < len(found) <= FEW else None

    def confusions(self) -> list[tuple[Any, Any, int]]:
        """Return the labels that the program took for others: `(wanted, predicted, number of runs)`, the most frequent first;
        `predicted` is None for an unreadable reply. Empty where the metric compares no output with a label.
        """
        labels = labels_of(self.program.plan, self.scores.metric)
        return confusions(self.scores, self.rows, labels) if labels is not None else []


def document(shown: Evaluation) -> dict[str, Any]:
    """Return the evaluation by the main metric as a dictionary: `program`, `spec`, `split`, `metric`, mean and interval, `n`
    (scored rows), `unreadable` (replies), `errors` (runs that an outage ended), `causes` (outages) and `failures` (own
    failures) by kind, `usage`, and where there are any `of` (rows of the split, if not all were run), `recovered` (steps
    that an `on_error` answered), `judges`, `by` and `confusions`. Raises LmprogError where no row was scored.
    """
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
    """Return an evaluation by the main metric as lines of text: the score with its interval, the failures, calls and cost
    behind it, the table of scores by label, and feedback on the lowest scores. Raises LmprogError where no row was scored.
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
    """Return as lines of text the table of scores by a column's values (as `Evaluation.groups` has them), and the labels most
    often taken for others; empty where there is neither.
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
    """Return an indented line of text for each kind of own failure, with its number of runs and its first message (none for
    unreadable replies). `failures` has both by kind.
    """
    found = []
    for kind, (count, first) in failures.items():
        if kind == "unreadable":
            found.append(f"  {count} replies could not be read (scored lowest)")
        else:
            found.append(f"  {_runs(count)} failed ({kind}) and scored lowest: {first}")
    return found


def difference_line(difference: Difference) -> str:
    """Return a paired difference as text, with its interval and the numbers of rows that are better, worse and equal."""
    rows = difference_document(difference)
    counts = ", ".join(f"{rows[name]} {name}" for name in ("better", "worse", "equal"))
    return f"difference, paired: {difference}; of {difference.n} rows {counts}"


def difference_document(difference: Difference) -> dict[str, Any]:
    """Return a paired difference as a dictionary: `mean`, `ci95`, `p`, and the numbers of rows: `n`, `better`, `worse`
    and `equal`."""
    equal = difference.n - difference.better - difference.worse
    rows = {"n": difference.n, "better": difference.better, "worse": difference.worse, "equal": equal}
    return {**difference.as_json(), **rows}


def _runs(count: int) -> str:
    """Return a number of runs in words."""
    return f"{count} run" if count == 1 else f"{count} runs"


def _counted(counts: Mapping[str, int]) -> str:
    """Return counts by name in one line, each number in brackets."""
    return ", ".join(f"{what} ({count})" for what, count in counts.items())


def _table(column: str, groups: Sequence[Group], metric: str) -> list[str]:
    """Return the lines of the table of scores by the values of a column."""
    names = [str(group.value) for group in groups]
    width = max(map(len, [*names, f"by {column}"]))
    precise = any(group.precision is not None for group in groups)
    found = [f"  {'by ' + column:<{width}}  {'n':>5}  {metric:<22}" + ("precision" if precise else "")]
    for name, group in zip(names, groups, strict=True):
        precision = "" if group.precision is None else f"{100 * group.precision:.1f}%"
        found.append(f"  {name:<{width}}  {group.estimate.n:>5}  {group.estimate!s:<22}{precision}")
    return [line.rstrip() for line in found]


def feedback(scores: Scores) -> list[str]:
    """Return the metric's feedback on the lowest scores, one line of at most 200 characters for each of the SHOWN (5)
    lowest scored runs that have outputs and feedback, however high these scores are."""
    with_feedback = [
        row for row in scores.rows if row.feedback and row.value is not None and row.result.outputs is not None
    ]
    lowest = sorted(with_feedback, key=lambda row: row.value or 0.0)[:SHOWN]
    return [f"  row {row.row}, {row.value:.2f}: {' '.join((row.feedback or '').split())[:200]}" for row in lowest]
