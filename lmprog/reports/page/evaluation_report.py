"""The content of an evaluation's page: scores, and each row with the answers of one program or two."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lmprog.compiler.trust.private import holds_private
from lmprog.optimizers.redaction import ShownRows, short
from lmprog.reports.calls import ShownCall, shown_calls
from lmprog.reports.matrix import Matrix
from lmprog.reports.page.document import LISTED, document
from lmprog.reports.scores import Evaluation, own_failures
from lmprog.scoring.evaluation import RowScore, Scores
from lmprog.scoring.statistics import Difference
from lmprog.scoring.tables import Group

WAYS = {
    "better": "better",
    "worse": "worse",
    "equal": "equal",
    "differs": "back",
    "highest": "better",
    "lowest": "worse",
    "between": "back",
    "failed": "worse",
    "left out": "back",
}
"""The words for the result of a row (`RowReport.way`), each with the colour of its badge."""

WITH_CALLS = 200
"""The most rows whose calls stand on the page; with those of thousands a browser could not open it."""


@dataclass(frozen=True)
class Answer:
    """The result of one run of a row, as the page shows it: its score (`value`, None: an outage), its outputs as text by name,
    error (None: none), the metric's feedback (None: none), and calls. What may be private is left out.
    """

    value: float | None
    outputs: Mapping[str, str]
    error: str | None
    feedback: str | None
    calls: Sequence[ShownCall]
    more: Mapping[str, float | None] = field(default_factory=dict)
    """The scores by the other metrics, by id (None: an outage)."""


@dataclass(frozen=True)
class Side:
    """The answers of the column `name` to a row, one for each repeat, with their mean score by the main metric (`value`, None:
    no run was scored).
    """

    name: str
    value: float | None
    answers: Sequence[Answer]


@dataclass(frozen=True)
class RowReport:
    """A row on the page: its number from 0, its columns as text by name (`inputs`), and the answers of each column with scores
    (`sides`).

    `way` is its result in a word: of two columns how the score changed from the base to the other (`better`, `worse` or
    `equal`), of more whether all scores are `equal` or one `differs`, of one `failed`, `highest`, `lowest` or `between`;
    `left out` where a column has no score.
    """

    number: int
    way: str
    inputs: Mapping[str, str]
    sides: Sequence[Side]

    @property
    def colour(self) -> str:
        """The class of the badge's colour in the page's style."""
        return WAYS[self.way]


@dataclass(frozen=True)
class EvaluationReport:
    """The content of the page of some evaluations of the same rows, which are the columns of `matrix`.

    `trace` is the trace file with their runs (None: none was written), `folder` the one that the page is written to, from
    which the trace is linked.
    """

    matrix: Matrix
    trace: Path | None
    folder: Path

    @cached_property
    def evaluations(self) -> Sequence[Evaluation]:
        """The columns that did not end with an error, perhaps none."""
        return [one for one in self.matrix.columns if one.error is None]

    @property
    def first(self) -> Evaluation:
        """The first column that has scores; where none has, the first column."""
        return self.evaluations[0] if self.evaluations else self.matrix.first

    @property
    def difference(self) -> Difference | None:
        """The paired difference of the column that is not the base from the base; None unless there are two columns and one
        metric, and where no row has both scores.
        """
        if len(self.matrix.columns) != 2 or len(self.matrix.metrics) > 1:
            return None
        compared = self.matrix.columns[1 - self.matrix.base]
        return self.matrix.difference(compared, self.matrix.metrics[0])

    @property
    def base(self) -> str:
        """The name of the column that the others are compared with."""
        return self.matrix.columns[self.matrix.base].name

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest score to show: 0 and 1, or beyond where an interval of a column by any metric goes
        beyond them."""
        estimates = [self.matrix.estimate(one, id) for one in self.evaluations for id in self.matrix.metrics]
        found = [each.ci95 for each in estimates if each is not None]
        return min([0.0, *(low for low, _ in found)]), max([1.0, *(high for _, high in found)])

    @property
    def notes(self) -> list[str]:
        """Warnings that hold for all the scores, such as few rows or outages."""
        return self.matrix.remarks

    def failures(self, which: Evaluation) -> list[str]:
        """Return lines of text with the number of failed runs of each kind and of runs that an `on_error` answered, with their
        messages unless these may be private; of a column that could not be scored, the reason.
        """
        if which.error is not None:
            return ["not scored"] if self._guarded else [which.error]
        answered = which.scores.recovered
        recovered = [each.without_reason if self._guarded else str(each) for each in answered]
        own = (line for scores in which.metrics.values() for line in self._failures(scores))
        return [*dict.fromkeys(own), *recovered]

    def _failures(self, scores: Scores) -> list[str]:
        """Return a line for each kind of failure by one metric, own failures first, with the number of runs and, unless it may
        be private, the first message.
        """
        if self._guarded:
            found = {**scores.failures, **scores.causes}
            return [f"{count} failed ({kind})" for kind, (count, _) in found.items()]
        left_out = [
            f"{count} failed ({kind}) and not scored: {first}" for kind, (count, first) in scores.causes.items()
        ]
        return [line.strip() for line in own_failures(scores.failures)] + left_out

    @property
    def groups(self) -> tuple[str, list[Group]] | None:
        """The name of the column that groups the scores (see `Evaluation.groups`), and the scores of each of its
        values, of the first program; None where there is none, or its values may be private."""
        return None if self._guarded else self.first.groups()

    @property
    def confusions(self) -> list[tuple[Any, Any, int]]:
        """The labels that the first program took for others: `(wanted, predicted, number of runs)`, the most frequent first;
        empty where they may be private.
        """
        return [] if self._guarded else self.first.confusions()

    @cached_property
    def guarded(self) -> str | None:
        """A sentence on what the page leaves out since it is private; None where nothing is."""
        if not self._guarded:
            return None
        return (
            "The program has private values: inputs that are private, outputs that they reach, labels, errors, feedback and "
            "calls are left out here."
        )

    @cached_property
    def _guarded(self) -> bool:
        """True where a program of any column, also of one without scores, has private values."""
        plans = [one.program.plan for one in self.matrix.columns]
        return any(map(holds_private, plans)) or any(ShownRows(plan).guarded for plan in plans)

    @cached_property
    def _shown(self) -> list[ShownRows]:
        """The names that may be shown of the rows and outputs, by column with scores."""
        return [ShownRows(one.program.plan) for one in self.evaluations]

    @cached_property
    def rows(self) -> list[RowReport]:
        """The rows that the page lists, each with its answers: the first LISTED (1,000) that the first column with
        scores has run."""
        numbers = list(dict.fromkeys(run.row for run in self.first.scores.rows))[:LISTED]
        return [self._row(number, place < WITH_CALLS) for place, number in enumerate(numbers)]

    @property
    def with_calls(self) -> int:
        """The largest number of listed rows that are shown with their calls: WITH_CALLS (200)."""
        return WITH_CALLS

    @property
    def without_calls(self) -> bool:
        """True where some listed rows are shown without their calls, although these are not private."""
        return not self._guarded and len(self.rows) > WITH_CALLS

    @property
    def more(self) -> int:
        """The number of rows that were run and that the page does not list."""
        return max(0, len({run.row for run in self.first.scores.rows}) - LISTED)

    @cached_property
    def _runs(self) -> list[dict[int, list[RowScore]]]:
        """The scored runs of each column with scores, by the number of the row."""
        found: list[dict[int, list[RowScore]]] = []
        for one in self.evaluations:
            by_row: dict[int, list[RowScore]] = {}
            for run in one.scores.rows:
                by_row.setdefault(run.row, []).append(run)
            found.append(by_row)
        return found

    def _row(self, number: int, with_calls: bool) -> RowReport:
        """Return the report of a row by its number, with the calls of its runs if asked for."""
        sides = [
            Side(
                one.name,
                one.scores.by_row.get(number),
                [self._answer(run, place, with_calls) for run in self._runs[place].get(number, ())],
            )
            for place, one in enumerate(self.evaluations)
        ]
        row = self.first.rows[number]
        visible = frozenset.intersection(*(shown.inputs for shown in self._shown))
        inputs = {name: short(value) for name, value in row.items() if not self._guarded or name in visible}
        return RowReport(number, self._way(number, sides), inputs, sides)

    def _way(self, number: int, sides: Sequence[Side]) -> str:
        """Return the result of a row in a word, one of WAYS, as RowReport describes it."""
        values = [side.value for side in sides]
        if any(value is None for value in values):
            return "left out"
        base = self.matrix.columns[self.matrix.base]
        at = next((place for place, one in enumerate(self.evaluations) if one is base), None)
        if len(values) > 2 or (len(values) == 2 and at is None):
            return "equal" if len(set(values)) == 1 else "differs"
        if len(values) == 2 and at is not None:
            mine, theirs = values[1 - at] or 0.0, values[at] or 0.0
            return "better" if mine > theirs else "worse" if mine < theirs else "equal"
        if any(run.kind is not None for run in self._runs[0][number]):
            return "failed"
        low, high = self.first.program.plan.metrics[self.first.scores.metric].range
        return "highest" if values[0] == high else "lowest" if values[0] == low else "between"

    def _answer(self, run: RowScore, place: int, with_calls: bool) -> Answer:
        """Return the answer of a run for the page, with its calls if asked for; where values may be private without error,
        feedback and calls. `place` is the place of its column among those with scores.
        """
        outputs = {
            name: short(value)
            for name, value in (run.result.outputs or {}).items()
            if name in self._shown[place].outputs
        }
        more = {id: other.value for id, other in run.others.items()}
        if self._guarded:
            return Answer(run.value, outputs, None, None, (), more)
        words = {id: scored.feedback for id, scored in ((self.first.scores.metric, run), *run.others.items())}
        named = [said if len(words) == 1 else f"{id}: {said}" for id, said in words.items() if said]
        error = run.cause or (str(run.result.error) if run.result.error is not None else None)
        calls = shown_calls([*run.earlier, *run.result.records, *run.all_judged]) if with_calls else ()
        return Answer(run.value, outputs, error, "\n".join(named) or None, calls, more)

    @property
    def trace_link(self) -> str | None:
        """The address of the trace file relative to the page, quoted for a URL; None without a trace."""
        return quote(os.path.relpath(self.trace.resolve(), self.folder.resolve())) if self.trace is not None else None

    def trace_command(self, number: int) -> str:
        """Return the command that shows the calls of a row, by its number, from the trace; only where there is a trace."""
        return f"lmprog trace {shlex.quote(str(self.trace))} --row {number} --messages"


def evaluation_page(report: EvaluationReport) -> str:
    """Return the HTML page of an evaluation, one text that loads nothing."""
    return document("evaluation.html", "page.js", report=report)
