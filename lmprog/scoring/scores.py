"""The scores of an evaluation: of each run, over all rows, and against those of another program."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lmprog.blame import too_many_outages
from lmprog.boundary.notebook import table
from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.failure import Recovered
from lmprog.runtime.result import Result, recorded
from lmprog.scoring.metrics import MetricFailed
from lmprog.scoring.recovered import RecoveredRuns, recovered_runs
from lmprog.scoring.statistics import Difference, Estimate, estimate, paired
from lmprog.traces.record import Record, ToolInvocation
from lmprog.traces.run_record import RunRecord, RunRecorder
from lmprog.traces.usage import Usage, usage_of


@dataclass(frozen=True)
class RowScore:
    """The score of one run of one data row: the row's number, the number of the repeat (from 0), the value, and the run's
    result.

    `value` is None where an outage (a provider or connection failure) ended the run, and the metric's lowest value where the
    program itself made the run fail; `cause` and `kind` then say why (None: it did not fail). `feedback` are the metric's
    words, or for a failure its reason (None: none). `judged` are the calls of LM judges for this metric, `earlier` the calls of
    runs of the row that an outage ended before this one, `parts` rewards by module, and `others` the scores by further metrics.
    """

    row: int
    repeat: int
    value: float | None
    result: Result
    feedback: str | None = None
    cause: str | None = None
    """The reason why the run, or its score, failed; None where neither did."""
    kind: str | None = None
    """The kind of that failure (`lmprog.blame`)."""
    judged: Sequence[Record] = ()
    """The calls of LM judges."""
    earlier: Sequence[Record] = ()
    """The calls of runs before this one, which an outage ended."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Rewards of the run by module, where a training has one for each; else empty."""
    others: Mapping[str, RowScore] = field(default_factory=dict)
    """The scores of the run by other metrics, where several are computed."""

    @property
    def lost(self) -> bool:
        """True where an outage left the run without a score, by this metric or by one of `others`."""
        return self.value is None or any(other.value is None for other in self.others.values())

    @property
    def all_judged(self) -> list[Record]:
        """The records of the calls of LM judges, those of `others` included."""
        return [*self.judged, *(made for other in self.others.values() for made in other.judged)]

    @property
    def repeatable(self) -> bool:
        """True where neither the run nor its judges called a tool that writes, with or without success, so that running
        the row again is safe."""
        return not any(
            isinstance(made, ToolInvocation) and made.wrote for made in (*self.result.records, *self.all_judged)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the score as a dictionary: `row`, `repeat`, `score`, `feedback`, `outputs`, `error` and `kind` (of
        failure).

        A run that failed by itself has both a score and an error. Failures that an `on_error` answered are in `recovered`,
        scores by further metrics in `metrics`, by id; both are absent where there are none.
        """
        more: dict[str, Any] = {}
        if self.result.recovered:
            more["recovered"] = [each.as_json() for each in self.result.recovered]
        if self.others:
            more["metrics"] = {id: other.as_json() for id, other in self.others.items()}
        return {
            "row": self.row,
            "repeat": self.repeat,
            "score": self.value,
            "feedback": self.feedback,
            "outputs": self.result.outputs,
            "error": self.cause,
            "kind": self.kind,
            **more,
        }


@dataclass(frozen=True)
class Outages:
    """The number of rows that have no score (`rows`), since outages ended all their runs, out of `of` rows."""

    rows: int
    of: int

    @property
    def share(self) -> float:
        """The fraction of all rows that have no score, 0.0 of no rows."""
        return self.rows / self.of if self.of else 0.0

    @property
    def too_many(self) -> bool:
        """True where so many rows have no score (more than 5%) that no candidate may be chosen by the scores of the
        others."""
        return too_many_outages(self.rows, self.of)

    def __str__(self) -> str:
        return f"{self.rows} of {self.of} rows ({100 * self.share:.0f}%)"


def doubt(sides: Mapping[str, Scores]) -> str | None:
    """Return a sentence that says why a comparison of scores shows nothing, where outages left out too many rows of any
    side (`Outages.too_many`); else None.

    `sides` has the scores that are compared, by the name that the sentence gives them.
    """
    if not any(scores.outages.too_many for scores in sides.values()):
        return None
    said = ", ".join(f"{name} {scores.outages}" for name, scores in sides.items())
    return f"outages left too many rows without a score ({said}), so this comparison shows nothing; try again later"


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores by one `metric` of all runs of an evaluation, in the order of the rows and, within a row, of the
    repeats."""

    metric: str
    rows: Sequence[RowScore]

    def __repr__(self) -> str:
        return f"Scores({self.metric} {self._said}, rows={self.outages.of}, errors={len(self.errors)})"

    def _repr_html_(self) -> str:
        rows = [(str(row.row), row.value, row.result.outputs, row.feedback or row.cause or "") for row in self.rows]
        return table(f"{self.metric} {self._said}", rows, ("row", "score", "outputs", "feedback"))

    @property
    def _said(self) -> str:
        try:
            return str(self.estimate)
        except LmprogError as error:
            return f"without a score: {error}"

    @staticmethod
    def of_values(
        metric: str,
        values: Iterable[tuple[int, float | None]],
        kinds: Sequence[str | None] = (),
        recovered: Mapping[int, Sequence[Recovered]] = {},
    ) -> Scores:
        """Return Scores made from saved values of a metric: pairs of a row's number and its score, None for an outage.

        Neither outputs, calls nor reasons of failures were saved, so that the results are empty and each `cause` is
        None. `kinds` are the kinds of the failures, in the order of the values (None: it did not fail), and may be
        fewer than these. `recovered` are the failures that an `on_error` answered, by the place of the value (from 0).
        """
        kept = list(values)
        given = [*kinds, *[None] * (len(kept) - len(kinds))]
        rows = [
            RowScore(row, 0, value, Result(None, (), recovered=recovered.get(place, ())), kind=kind)
            for place, ((row, value), kind) in enumerate(zip(kept, given, strict=True))
        ]
        return Scores(metric, rows)

    @property
    def kept(self) -> list[tuple[int, float | None]]:
        """The values to save, from which `of_values` makes Scores again: each row's number and mean score, None where
        outages ended all its runs."""
        return [(row, self.by_row.get(row)) for row in dict.fromkeys(run.row for run in self.rows)]

    @cached_property
    def by_row(self) -> dict[int, float]:
        """The mean score over the repeats of each row that has a score, by row number; all statistics are of these values."""
        values: dict[int, list[float]] = {}
        for row in self.rows:
            if row.value is not None:
                values.setdefault(row.row, []).append(row.value)
        return {row: math.fsum(found) / len(found) for row, found in values.items()}

    @cached_property
    def estimate(self) -> Estimate:
        """The mean over rows with its 95% interval.

        Raises UsageError where there are no rows, ProviderError where outages left every row without a score, LmprogError where
        no row fits the inputs of the program.
        """
        if not self.rows:
            raise UsageError("there are no rows to score")
        if not self.by_row:
            raise ProviderError(f"no row could be scored: {_why(self.errors[0])}")
        if all(row.kind == "input" for row in self.rows):
            raise LmprogError(f"no row could be scored: {_why(self.rows[0])}")
        return estimate(list(self.by_row.values()))

    def checked(self) -> Scores:
        """Return these scores; raise MetricFailed where there are runs that no outage ended, and the metric itself
        failed on all of them.

        This is for a program as its author wrote it, where such a metric is broken. A candidate's outputs may be the
        cause of the failures, so that candidates are not checked: they score lowest.
        """
        scored = [row for row in self.rows if row.value is not None]
        if scored and all(row.kind == "metric" for row in scored):
            raise MetricFailed(f"no row could be scored: {_why(scored[0])}; it fails on every row, so correct it")
        return self

    @property
    def mean(self) -> float:
        """The mean score over the rows that have one. Raises what `estimate` raises."""
        return self.estimate.mean

    @property
    def ci95(self) -> tuple[float, float]:
        """The lower and the upper end of the 95% interval of the mean. Raises what `estimate` raises."""
        return self.estimate.ci95

    @property
    def errors(self) -> list[RowScore]:
        """The runs without a score by this metric, because an outage ended them or the metric."""
        return [row for row in self.rows if row.value is None]

    @cached_property
    def outages(self) -> Outages:
        """The number of rows none of whose runs has a score, out of all rows."""
        rows = {run.row for run in self.rows}
        return Outages(len(rows) - len(self.by_row), len(rows))

    @property
    def unreadable(self) -> int:
        """The number of runs that failed because an LM's reply could not be read."""
        return sum(row.kind == "unreadable" for row in self.rows)

    @property
    def causes(self) -> dict[str, tuple[int, str]]:
        """The number of runs that outages ended and the message of the first, by kind of outage; empty without
        outages."""
        return _by_kind(self.errors)

    @property
    def failures(self) -> dict[str, tuple[int, str]]:
        """The number of runs that failed by themselves (scored lowest) and the message of the first, by kind of
        failure; empty without failures."""
        return _by_kind([row for row in self.rows if row.value is not None and row.kind is not None])

    @cached_property
    def recovered(self) -> list[RecoveredRuns]:
        """The runs in which a step failed and its `on_error` answered, by step and kind of failure; they are scored by their
        outputs, and no failures."""
        return recovered_runs((f"row {row.row}: ", row.result) for row in self.rows)

    @property
    def usage(self) -> Usage:
        """The calls, tokens and cost of the program's runs, without those of judges; runs that an outage ended are
        included, also where they were made again."""
        return usage_of([*row.earlier, *row.result.records] for row in self.rows)

    @property
    def judges(self) -> Usage:
        """The calls, tokens and cost of this metric's LM judges (not of `others`), for runs that were made again
        included."""
        return usage_of(row.judged for row in self.rows)

    def on(self, rows: Collection[int]) -> Scores:
        """Return the scores of those rows alone whose numbers are in `rows`."""
        return Scores(self.metric, [row for row in self.rows if row.row in rows])

    def against(self, other: Scores) -> Difference:
        """Return the mean difference, this minus `other`, with interval and p value, compared row by row over the rows
        scored in both.

        Raises ProviderError where no row was scored in both.
        """
        mine, theirs = self.by_row, other.by_row
        both = [row for row in mine if row in theirs]
        if not both:
            raise ProviderError("no row was scored in both programs, so they cannot be compared")
        return paired([theirs[row] for row in both], [mine[row] for row in both])


def scored_run(recorder: RunRecorder, row: RowScore, columns: Mapping[str, Any], metrics: Sequence[str]) -> RunRecord:
    """Return the record of a scored run for a trace, with its scores and the words of the metrics, which are the reason of a
    failure where there are no others.

    `columns` is the whole data row, and the first of `metrics` (ids) made the score of `row`.
    """
    scores = {metrics[0]: row, **row.others}
    return recorded(
        recorder,
        row.result,
        row.row,
        rollout=row.repeat,
        columns={name: value for name, value in columns.items() if name not in row.result.inputs},
        scores={id: each.value for id, each in scores.items()},
        said={id: said for id, each in scores.items() if (said := each.feedback or each.cause)},
    )


def _why(run: RowScore) -> str:
    """Return the reason why a run failed; of one whose reason was not saved its kind of failure."""
    return run.cause or (f"it failed ({run.kind})" if run.kind is not None else "outages ended its runs")


def _by_kind(rows: Iterable[RowScore]) -> dict[str, tuple[int, str]]:
    """Return, by kind of failure, the number of the runs and the reason of the first, for an own failure after its row."""
    found: dict[str, tuple[int, str]] = {}
    for row in rows:
        # What a row met by its own is found by it; an outage is of no row.
        place = f"row {row.row}: " if row.value is not None else ""
        count, first = found.get(row.kind or "", (0, f"{place}{row.cause or ''}"))
        found[row.kind or ""] = count + 1, first
    return found
