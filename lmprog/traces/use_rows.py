"""Rows of data made from the runs of traces and the feedback on them (`lmprog rows`).

A row has the inputs of a run and its outputs as labels: those of the correction, else those that the program gave. Where
feedback calls an answer wrong and does not correct it, there is no row, or one whose labels are null. Of runs with equal
inputs one row is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.compiler.expressions.compiled import EvaluationError, Expression, parsed
from lmprog.compiler.expressions.parser import ExpressionError
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.rows.feedback import ANSWER, COMMENT, GOOD, SCORE
from lmprog.errors import UsageError
from lmprog.state.digests import digest
from lmprog.traces.feedback import read_feedback, read_runs

RUN = "run"
COLUMNS = (SCORE, COMMENT, ANSWER, RUN)
"""The columns of a row beside inputs and outputs."""


@dataclass(frozen=True)
class Use:
    """A recorded run of a program, such as one that a server answered: its record in a trace (`run`, the dictionary of a
    RunRecord), and the feedback on it by part (empty: none)."""

    run: Mapping[str, Any]
    feedback: Mapping[str, Any]

    @property
    def outputs(self) -> Mapping[str, Any] | None:
        """The outputs that the program gave, by name; None where the run failed."""
        return self.run.get("outputs")

    @property
    def correction(self) -> Mapping[str, Any] | None:
        """The outputs that a person corrected, by name, without those that were right; None where there is no correction, or
        it equals the outputs."""
        found: Mapping[str, Any] | None = self.feedback.get("correction")
        return found if found and {**(self.outputs or {}), **found} != self.outputs else None

    @property
    def score(self) -> float | None:
        """The score of the feedback, 0 to 1 (None: none); without one, 1 where the correction equals the outputs."""
        score: float | None = self.feedback.get(SCORE)
        return 1.0 if score is None and self.feedback.get("correction") and self.correction is None else score

    @property
    def is_wrong(self) -> bool:
        """True if the feedback's score calls the outputs wrong (it is below GOOD), and no other outputs correct
        them."""
        return self.correction is None and self.score is not None and self.score < GOOD

    @property
    def rank(self) -> int:
        """The preference for the run as a row: 3 corrected, 2 called right, 1 with other feedback, 0 without any."""
        if self.correction is not None:
            return 3
        return 0 if not self.feedback else 2 if self.score is not None and self.score >= GOOD else 1

    @property
    def labels(self) -> Mapping[str, Any]:
        """The outputs as labels of a row by name, with those that a correction replaces; each is null where they are called
        wrong and not corrected, and there are none where the run failed and has no correction."""
        outputs = self.outputs or {}
        if self.correction is not None:
            return {**outputs, **self.correction}
        return dict.fromkeys(outputs) if self.is_wrong else outputs


@dataclass
class Condition:
    """The expression of `--where`, over `inputs`, `outputs`, `row` (the columns of the row), `metrics` and `trace`.

    `failed` has the reasons why it had no value for some runs.
    """

    expression: Expression
    failed: list[str] = field(default_factory=list)
    """Messages of the runs for which the expression has no value."""

    @classmethod
    def read(cls, text: str, uses: Sequence[Use]) -> Condition:
        """Return the condition in a text. Raises UsageError for a mistake in it, or a name that none of the runs `uses` has."""
        text = text.strip()
        if text.startswith("${{") and text.endswith("}}"):
            text = text[3:-2]
        try:
            expression = parsed(text)
        except ExpressionError as error:
            raise UsageError(f"--where: {error}" + (f"; {error.fix}" if error.fix else "")) from None
        known: dict[str, dict[str, Any]] = {}
        for use in uses:
            for root, values in _scope(use).items():
                known.setdefault(root, {}).update(values)
        for root, *names in sorted(expression.references):
            if root not in known:
                raise UsageError(f"--where: there is no `{root}`; {suggestion(root, known, 'names')}")
            if names and names[0] not in known[root]:
                raise UsageError(
                    f"--where: no run has `{root}.{names[0]}`; {suggestion(names[0], known[root], 'names')}"
                )
        condition = cls(expression)
        condition._absent = {root: dict.fromkeys(values) for root, values in known.items()}
        return condition

    _absent: dict[str, dict[str, None]] = field(default_factory=dict, init=False)

    def holds(self, use: Use) -> bool:
        """Return whether the expression is true for a run, as Python's `bool` takes its value; a name that the run does
        not have is null. False where it has no value, whose reason is added to `failed`."""
        scope = {root: {**self._absent.get(root, {}), **values} for root, values in _scope(use).items()}
        try:
            return bool(self.expression.evaluate(scope))
        except EvaluationError as error:
            self.failed.append(f"run {use.run['id']}: {error}")
            return False


@dataclass
class UseRows:
    """The rows made of the runs of some traces, and counts: of the rows those that are corrected, called right (`good`) or
    without feedback (`unseen`); of the runs those called wrong and not corrected (`wrong`), left out for equal inputs
    (`repeated`), or without outputs (`failed`).

    `private` are the private columns, and `unfit` messages on runs for which the condition has no value.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    """The private columns."""
    corrected: int = 0
    good: int = 0
    wrong: int = 0
    """Runs whose answer feedback calls wrong and does not correct: left out, or rows without labels."""
    unseen: int = 0
    """Rows without feedback, of runs that were not scored against columns of a data row."""
    repeated: int = 0
    """Runs left out since another run had the same inputs."""
    failed: int = 0
    """Runs left out since they have neither outputs nor a correction."""
    unfit: list[str] = field(default_factory=list)
    """Messages of the runs for which the condition has no value."""


def read_uses(traces: Iterable[Path]) -> Iterator[Use]:
    """Yield the runs of the traces with the feedback beside these; lines that cannot be read are left out. Raises UsageError
    for a file that does not exist or has no runs."""
    for trace in traces:
        given = read_feedback(trace)
        for run in read_runs(trace):
            yield Use(run, given.get(run["id"], {}))


def rows_of_use(
    uses: Iterable[Use],
    *,
    where: str | None = None,
    only_feedback: bool = False,
    unlabelled: bool = False,
    names: Mapping[str, str] | None = None,
) -> UseRows:
    """Return the rows made of the runs, in the order in which their inputs come first. With `only_feedback` runs
    without feedback are left out, and by `where` (an expression, None: none) those for which it is not true.

    Outputs that feedback calls wrong and does not correct are left out, or with `unlabelled` are rows with null
    outputs. Of runs with equal inputs one is taken: a corrected one, else one called right, else one with other
    feedback, else any; of equals the last. `names` are the names of columns by output or column of feedback, for those
    that get another one (None: all keep theirs); a name that is no column is ignored. Raises UsageError where two
    values would have the same column, and for a mistake in `where`.
    """
    found, made = list(uses), UseRows()
    condition = Condition.read(where, found) if where is not None else None
    chosen: dict[str, Use] = {}
    for use in found:
        if only_feedback and not use.feedback:
            continue
        if condition is not None and not condition.holds(use):
            continue
        if use.outputs is None and use.correction is None:
            made.failed += 1
            continue
        if use.is_wrong:
            made.wrong += 1
            if not unlabelled:
                continue
        key = digest(use.run["inputs"])
        made.repeated += key in chosen
        if key not in chosen or use.rank >= chosen[key].rank:
            chosen[key] = use
    made.unfit = condition.failed if condition is not None else []
    private: dict[str, None] = {}
    for use in chosen.values():
        made.rows.append(_row(use, names or {}, private))
        made.corrected += use.rank == 3
        made.good += use.rank == 2
        made.unseen += use.rank == 0 and not use.run.get("columns")
    made.private = list(private)
    return made


def _row(use: Use, names: Mapping[str, str], private: dict[str, None]) -> dict[str, Any]:
    """Return the row of a run, and add its private columns to `private`."""
    inputs, labels = use.run["inputs"], use.labels
    hidden = set(use.run.get("private", ()))
    row: dict[str, Any] = {**inputs}
    private |= dict.fromkeys(name for name in inputs if name in hidden)
    # The columns of a scored row are labels that people wrote: the program's own words do not replace them.
    given = {
        name: value for name, value in (use.run.get("columns") or {}).items() if name not in (use.correction or {})
    }
    for name, value in labels.items():
        column = names.get(name, name)
        if column in inputs:
            raise UsageError(
                f"the output {name!r} of {use.run['program']} has the column {column!r}, as an input has; name another with "
                f"--as {name}=COLUMN"
            )
        row[column] = value
        if name in hidden:
            private[column] = None
    row |= given
    private |= dict.fromkeys(name for name in given if name in hidden)
    answer = use.outputs if use.outputs is not None and dict(labels) != use.outputs else None
    if (
        given
        and use.outputs is not None
        and any(given.get(name, value) != value for name, value in use.outputs.items())
    ):
        answer = use.outputs
    more = {SCORE: use.score, COMMENT: use.feedback.get(COMMENT), ANSWER: answer, RUN: use.run["id"]}
    for name, value in more.items():
        column = names.get(name, name) if name not in labels else name
        if value is None:
            continue
        if column in row:
            raise UsageError(
                f"{use.run['program']} has an input or output {column!r}, the name of a column of feedback; name "
                + (
                    f"the output's column with --as {name}=COLUMN"
                    if name in labels
                    else f"the other with --as {name}=COLUMN"
                )
            )
        row[column] = value
        # A comment may quote whatever the run was given.
        if (name == COMMENT and hidden) or (name == ANSWER and hidden & set(use.outputs or ())):
            private[column] = None
    return row


def _scope(use: Use) -> dict[str, Mapping[str, Any]]:
    """Return the values that a condition reads for a run, by name, below each of the first names."""
    run = use.run
    return {
        "inputs": run["inputs"],
        "outputs": use.outputs or {},
        "row": {
            **{SCORE: use.score, COMMENT: use.feedback.get(COMMENT), RUN: run["id"]},
            **run["inputs"],
            **use.labels,
            **(run.get("columns") or {}),
        },
        "metrics": run.get("scores") or {},
        "trace": {name: run.get(name) for name in ("program", "example", "rollout", "error", "seconds", "started")},
    }
