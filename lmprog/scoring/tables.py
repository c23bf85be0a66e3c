"""Tables of an evaluation: mean scores by the values of a column, and confusions between labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import Enum
from lmprog.errors import UsageError
from lmprog.scoring.evaluation import Scores
from lmprog.scoring.statistics import Estimate, estimate

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """The mean score, with its interval (`estimate`), of the rows that have the same `value` in a column (None: also those
    without the column).

    `precision`, where the column holds labels: the share (0 to 1) of the runs that output this label which are right; None
    where none do, and for other columns.
    """

    value: Any
    estimate: Estimate
    precision: float | None = None
    """The precision of a label: the share of the runs that output it that are right; None where no run does."""

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary with `value` (the column's value that the rows share), `n`, `mean` and `ci95`.

        It has `precision` only for a label that some run gave.
        """
        found = {"value": self.value, "n": self.estimate.n, **self.estimate.as_json()}
        return found if self.precision is None else {**found, "precision": self.precision}


@dataclass(frozen=True)
class Labels:
    """The `output` (of an enum type) and the data `column`, by name, that a metric compares, as in classification."""

    output: str
    column: str


def labels_of(plan: Plan, metric: str) -> Labels | None:
    """Return the output and the column that a metric compares; None where its arguments are not one enum output and one
    column. Raises KeyError for a metric that the program does not have."""
    read = [expression.references for expression in plan.metrics[metric].arguments.values()]
    paths = sorted(path for references in read for path in references)
    if len(read) != 2 or [path[0] for path in paths] != ["outputs", "row"] or any(len(path) != 2 for path in paths):
        return None
    output, column = paths[0][1], paths[1][1]
    return Labels(output, column) if isinstance(plan.output_types.get(output), Enum) else None


def by_column(scores: Scores, rows: Rows, column: str, labels: Labels | None = None) -> list[Group]:
    """Return the mean score of the rows of each value of a column, in the order of the values: by size where all are
    numbers, else by their text, with None first. Values that are written equally, as 1 and "1", are one. Rows without a
    score are left out; `rows` are the data rows that were scored, by their numbers.

    With `labels` of that column each group has the precision of its label too (None: no labels). Raises UsageError
    where no row has the column.
    """
    if not any(column in row for row in rows):
        known = ", ".join(dict.fromkeys(name for row in rows for name in row))
        raise UsageError(f"the rows have no column {column!r}; theirs are {known}")
    by_word: dict[tuple[bool, str], tuple[Any, list[float]]] = {}
    for index, value in scores.by_row.items():
        key = rows[index].get(column)
        by_word.setdefault(_word(key), (key, []))[1].append(value)
    precise = _precision(scores, rows, labels) if labels is not None and labels.column == column else {}
    numbers = all(isinstance(key, int | float) for key, _ in by_word.values())
    ordered = sorted(by_word, key=lambda word: by_word[word][0] if numbers else word)
    return [Group(by_word[word][0], estimate(by_word[word][1]), precise.get(word)) for word in ordered]


def _precision(scores: Scores, rows: Rows, labels: Labels) -> dict[tuple[bool, str], float]:
    """Return the precision of each predicted value, by its key (`_word`); empty where a score is not 1 for equal labels and
    0 for others, so that the metric compares them in another way."""
    said: dict[tuple[bool, str], list[bool]] = {}
    for run in scores.rows:
        if run.value is None or run.result.outputs is None or run.kind == "metric":
            continue
        word = _word(run.result.outputs[labels.output])
        right = word == _word(rows[run.row].get(labels.column))
        if run.value != float(right):
            return {}
        said.setdefault(word, []).append(right)
    return {word: sum(right) / len(right) for word, right in said.items()}


def confusions(scores: Scores, rows: Rows, labels: Labels) -> list[tuple[Any, Any, int]]:
    """Count wrong labels; return `(wanted, predicted, number of runs)` for each pair, the most frequent first, of equal
    numbers by their texts.

    `rows` are the data rows that were scored, by their numbers. An unreadable reply predicts None; runs that an outage
    or another failure ended are left out.
    """
    counts: Counter[tuple[tuple[bool, str], tuple[bool, str]]] = Counter()
    values: dict[tuple[bool, str], Any] = {}
    for run in scores.rows:
        if run.value is None or run.kind not in (None, "unreadable"):
            continue
        said = None if run.result.outputs is None else run.result.outputs[labels.output]
        wanted = rows[run.row].get(labels.column)
        if _word(wanted) != _word(said):
            counts[_word(wanted), _word(said)] += 1
            values.update({_word(wanted): wanted, _word(said): said})
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(values[wanted], values[said], count) for (wanted, said), count in ordered]


def _word(value: Any) -> tuple[bool, str]:
    """Return a key of a value, also of lists and objects, which cannot be keys: None first, other values by their text."""
    return value is not None, value if isinstance(value, str) else repr(value)
