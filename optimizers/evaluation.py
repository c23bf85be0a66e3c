"""Evaluation of one stage's candidates on dev rows: their scores, which were refused, and which is best.

The best is the one with the highest mean, and the program that the stage started from is always among them. Whether the choice
is a gain is not decided here: other rows confirm it (`optimizers.staged.acceptance`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.optimizers.candidate import START as START
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.filters import Filter, Filters
from lmprog.optimizers.journal.lineage import remember
from lmprog.optimizers.optimizer import Row, Task
from lmprog.optimizers.strategies import outages
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import aevaluate
from lmprog.scoring.rerun import all_of
from lmprog.scoring.statistics import estimate, paired
from lmprog.seeds import derive

Values = Mapping[str, float]
"""Score by row index, as text: the plain form in which the journal keeps an evaluation."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its scores by row number as text (`values`), on the first `rows` rows of the evaluator; rows lost to
    outages have no score."""

    candidate: Candidate
    values: Values
    rows: int

    @property
    def usable(self) -> bool:
        """True where so few rows were lost to outages (at most 5%) that the candidate may be chosen by its score on the
        other rows."""
        return not outages.too_many(len(self.values), self.rows)


class CandidateEvaluator:
    """Scores the candidates of one stage on dev rows and selects the best; every score is kept in the journal.

    `select` runs each row `repeats` times and takes the mean, for replies that are sampled. `evaluate_all` scores `at_once`
    candidates at the same time. `rows` are those that candidates are scored on (None: the task's choosing dev rows), and
    `filters` decide which candidates are never run (None: leaks of dev rows and the compiler's checks).
    """

    def __init__(
        self,
        task: Task,
        rows: Sequence[Row] | None = None,
        filters: Filter | None = None,
        repeats: int = 1,
        at_once: int = 1,
    ) -> None:
        self.task, self.repeats, self.at_once = task, repeats, at_once
        self.rows = task.dev if rows is None else rows
        self.filters = filters or Filters(task)
        self.scored: dict[str, Scored] = {}
        self.refused: set[str] = set()

    @property
    def entered(self) -> int:
        """The number of candidates that were scored or refused so far, without the start, which must have been scored."""
        return len(self.scored) + len(self.refused) - 1

    async def evaluate(
        self, candidate: Candidate, rows: int | None = None, parents: Sequence[Candidate] = (START,)
    ) -> Scored | None:
        """Score a candidate on the first `rows` rows of the evaluator (None: on all), and return all its scores, those
        on further rows too; rows that it was run on before, also those lost to outages, are not run again.

        Return None where a check or a filter rejects the candidate, and then it is never run. `parents` are the
        candidates that it was derived from. Raises ProviderError where outages left none of the new rows with a score,
        MetricFailed where the metric raised on every row of the start (on those of another candidate the score is the
        lowest), and BudgetExceeded.
        """
        wanted = len(self.rows) if rows is None else rows
        digest = candidate.digest
        known = self.scored.get(digest)
        if known is None:
            if self.rejects(candidate):
                return None
            known = Scored(candidate, {}, 0)
        if known.rows < wanted:
            more = await self._score(candidate, self.rows[known.rows : wanted], known.rows)
            known = self.scored[digest] = Scored(candidate, {**known.values, **more}, wanted)
            self.remember(candidate, parents, known.values)
        return known

    async def evaluate_all(self, candidates: Sequence[Candidate], rows: int | None = None) -> list[Scored | None]:
        """Score candidates on the first `rows` rows (None: on all) as `evaluate` does, `at_once` of them at the same
        time; return their scores in the order of `candidates`, None for a rejected one. Their parent is the start.

        The scores, and their order in the journal, do not depend on which run ends first. Raises what `evaluate`
        raises; the candidates at work beside the one that fails are then cancelled.
        """
        found: list[Scored | None] = []
        for first in range(0, len(candidates), self.at_once):
            group = candidates[first : first + self.at_once]
            if len(group) > 1:
                await self._run_ahead(group, len(self.rows) if rows is None else rows)
            found += [await self.evaluate(candidate, rows) for candidate in group]
        return found

    async def enter(self, candidates: Sequence[Candidate], rows: int | None, of: int) -> list[Scored | None]:
        """Score candidates on the first `rows` dev rows (None: on all) as `evaluate_all` does, and show each new one on
        the progress display; return their scores in the order of `candidates`, None for a rejected one.

        `of` is the largest number of candidates that the search will have.
        """
        before, known = self.entered, {*self.scored}
        scores = await self.evaluate_all(candidates, rows)
        new = {scored.candidate.digest: scored.candidate for scored in scores if scored is not None}
        for number, digest in enumerate((digest for digest in new if digest not in known), before + 1):
            self.tell(new[digest], of, number)
        return scores

    async def _run_ahead(self, group: Sequence[Candidate], wanted: int) -> None:
        """Run candidates at the same time on the rows that they lack of the first `wanted`, and keep their scores as one entry
        of the journal; do nothing where fewer than two lack any."""
        lacking: dict[str, tuple[Candidate, int]] = {}
        for candidate in group:
            known = self.scored.get(candidate.digest)
            first = known.rows if known is not None else 0
            if first < wanted and not self.rejects(candidate):
                lacking[candidate.digest] = candidate, first
        if len(lacking) < 2:
            return

        async def work() -> list[dict[str, Any]]:
            return await all_of(
                [
                    self._values(candidate, self.rows[first:wanted], first, 1, RunOptions(seed=self.task.seed))
                    for candidate, first in lacking.values()
                ]
            )

        named = ",".join(f"{digest}/{first}-{wanted}" for digest, (_, first) in lacking.items())
        kept = await self.task.journal.once(f"search/{named}", work)
        for (candidate, _), more in zip(lacking.values(), kept, strict=True):
            known = self.scored.get(candidate.digest, Scored(candidate, {}, 0))
            self.scored[candidate.digest] = Scored(candidate, {**known.values, **more}, wanted)
            self.remember(candidate, (START,), self.scored[candidate.digest].values)

    def rejects(self, candidate: Candidate) -> bool:
        """Return whether a check or a filter rejects the candidate, False for the start; the first time the reason is written
        to the journal. Nothing is run."""
        if candidate.digest in self.refused:
            return True
        why = self.filters.reject_reason(candidate) if candidate != START else None
        if why is not None:
            self.refused.add(candidate.digest)
            self.task.journal.record("refused", candidate=candidate.as_json(), findings=why)
        return why is not None

    def remember(self, candidate: Candidate, parents: Sequence[Candidate], values: Values) -> None:
        """Write a candidate's parents and score, the mean of `values` (scores by row, one at least), to the journal,
        for the reports on the run."""
        score = estimate(list(values.values()))
        remember(self.task.journal, self.task.program.plan, candidate, parents, score)

    def mean_on(self, candidate: Candidate, rows: int) -> float:
        """Return a candidate's mean score on the first `rows` rows, on which it must have been run; minus infinity where
        outages left none of them with a score."""
        first = {str(row) for row in range(rows)}
        found = {row: value for row, value in self.scored[candidate.digest].values.items() if row in first}
        return mean(found) if found else float("-inf")

    def mean_with(self, module: str, instructions: str | None) -> float | None:
        """Return the mean score of the candidates in which `module` has these instructions (None: those of the start),
        on the rows that all candidates were run on; None where there is no such candidate, and minus infinity where
        outages left one without a score on these rows.
        """
        rows = min((scored.rows for scored in self.scored.values()), default=0)
        having = [
            self.mean_on(scored.candidate, rows)
            for scored in self.scored.values()
            if scored.candidate.instructions.get(module) == instructions
        ]
        return sum(having) / len(having) if having else None

    def ranked(self, rows: int) -> list[Candidate]:
        """Return the candidates, without the start, that were run on at least `rows` rows, the best first by their mean
        on the first `rows` rows, of equal ones the earlier first; those that too many outages cut are left out."""
        found = [
            scored.candidate
            for scored in self.scored.values()
            if scored.candidate != START and scored.rows >= rows and scored.usable
        ]
        return sorted(found, key=lambda candidate: self.mean_on(candidate, rows), reverse=True)

    @property
    def best(self) -> Scored:
        """The best of the candidates that were scored on the most rows; the start, which must have been scored on as
        many, where it is no worse on these rows."""
        start = self.scored[START.digest]
        most = self._most
        ranked = self.ranked(most)
        if not ranked:
            return start
        rival = self.scored[ranked[0].digest]
        return rival if self.mean_on(ranked[0], most) > self.mean_on(START, most) else start

    def tell(self, candidate: Candidate, of: int, number: int | None = None) -> None:
        """Show a scored candidate and the best so far on the progress display, with what is spent.

        `number` is the number of the candidate (None: it is the newest), `of` the largest number of candidates that the
        search will have.
        """
        self.task.tell_spending()
        self.task.journal.tell(
            "trial",
            number=self.entered if number is None else number,
            of=of,
            score=estimate(list(self.scored[candidate.digest].values.values())).as_json(),
            best=estimate(list(self.best.values.values())).as_json(),
            demos={module: len(demos) for module, demos in candidate.demos.items()},
        )

    async def select(self, finalists: int) -> Candidate:
        """Return the candidate with the highest mean over all rows of the evaluator, or START, no change, where none is
        better than the start.

        First the start and the finalists are run on the rows that they were not scored on yet, and with `repeats` above
        1 on all rows again. Finalists are the `finalists` candidates with the highest means among those that were
        scored on the most rows. Raises what `evaluate` raises; `best_so_far` then has the best without further runs.
        """
        chosen = self.ranked(self._most)[:finalists]
        await self.evaluate_all([START, *chosen])
        found = [self.scored[candidate.digest] for candidate in (START, *chosen)]
        if self.repeats > 1:
            found = [await self._again(scored) for scored in found]
        return self.better(found[0], found[1:])

    def best_so_far(self) -> Candidate:
        """Return the candidate with the highest mean by the scores so far, without further runs, or START, no change, where
        none is better than the start, which must have been scored: for a search whose budget is spent.
        """
        start, best = self.scored[START.digest], self.best
        if best is start:
            return self.better(start, [])
        return self.better(_first(start, best.rows), [best])

    def better(self, start: Scored, rivals: Sequence[Scored]) -> Candidate:
        """Return the candidate of `rivals` that gains most over `start`, in the mean over the rows that both have, or START,
        no change, where none gains.

        The comparison is written to the journal. Rivals that too many outages cut are left out with a note, and where they
        cut the start, nothing is chosen.
        """
        journal = self.task.journal
        if not start.usable:
            journal.note(outages.complaint("the program as it is", len(start.values), start.rows))
            return START
        for scored in [*self.scored.values(), *rivals]:
            if not scored.usable:
                whose = f"candidate {scored.candidate.digest[:8]}"
                journal.note(outages.complaint(whose, len(scored.values), scored.rows))
        usable = [rival for rival in rivals if rival.usable]
        if not usable:
            return START
        best = max(usable, key=lambda rival: mean_gain(start.values, rival.values))
        gain = paired(*on_both(start.values, best.values))
        verdict = "chosen" if gain.mean > 0 else "no better"
        what = "best against start, on the rows that choose"
        journal.record("compared", what=what, difference=gain.as_json(), verdict=verdict)
        return best.candidate if gain.mean > 0 else START

    @property
    def _most(self) -> int:
        """The most rows that a candidate other than the start was run on, 0 where there is none; those that too many outages
        cut do not count."""
        return max((one.rows for one in self.scored.values() if one.candidate != START and one.usable), default=0)

    async def _again(self, scored: Scored) -> Scored:
        """Run a candidate that was run once on all rows until each has been run `repeats` times, and return it with the means;
        rows without a score the first time or in all repeats have none."""
        options, more = RunOptions(seed=derive(self.task.seed, "repeats")), self.repeats - 1
        found = await self._run(scored.candidate, self.rows, "repeated", 0, more, options)
        both = {row: (scored.values[row] + more * found[row]) / (more + 1) for row in scored.values if row in found}
        return Scored(scored.candidate, both, len(self.rows))

    async def _score(self, candidate: Candidate, rows: Sequence[Row], first: int) -> Values:
        return await self._run(candidate, rows, "search", first, 1, RunOptions(seed=self.task.seed))

    def program_of(self, candidate: Candidate) -> Program:
        """Return the stage's program with a candidate applied, which is the one that is run to score it. Raises
        SpecError where the compiler refuses it."""
        return self.task.program.with_candidate(candidate)

    async def _run(
        self, candidate: Candidate, rows: Sequence[Row], part: str, first: int, repeats: int, options: RunOptions
    ) -> Values:
        """Run a candidate on `rows`, each `repeats` times, or take the scores from the journal, where they are kept under a key
        that begins with `part`; return the mean score by the index of a row, as text, which counts from `first`."""
        key = f"{part}/{candidate.digest}/{first}-{first + len(rows)}"
        kept: Values = await self.task.journal.once(key, lambda: self._values(candidate, rows, first, repeats, options))
        return dict(kept)

    async def _values(
        self, candidate: Candidate, rows: Sequence[Row], first: int, repeats: int, options: RunOptions
    ) -> dict[str, Any]:
        """Run a candidate on `rows` and return its scores by the index of a row, as text, which counts from `first`. Raises
        ProviderError where outages left none, and MetricFailed where the metric raised in all runs of the start."""
        program = self.program_of(candidate)
        scores = await aevaluate(program, rows, self.task.metric, repeats=repeats, options=options)
        if candidate == START:
            scores.checked()
        _ = scores.estimate  # raises where nothing could be scored
        return {str(first + row): value for row, value in scores.by_row.items()}


def _first(scored: Scored, rows: int) -> Scored:
    first = {str(row) for row in range(rows)}
    return Scored(scored.candidate, {row: value for row, value in scored.values.items() if row in first}, rows)


def on_both(before: Values, after: Values) -> tuple[list[float], list[float]]:
    """Return the scores before and after of the rows that have both, as two lists in the order of `before`."""
    both = [row for row in before if row in after]
    return [before[row] for row in both], [after[row] for row in both]


def mean_gain(before: Values, after: Values) -> float:
    """Return the mean score after minus the mean before, over the rows that have both, of which there must be one."""
    first, second = on_both(before, after)
    return math.fsum(second) / len(second) - math.fsum(first) / len(first)


def mean(values: Values) -> float:
    """Return the mean of the scores by row, of which there must be one."""
    return sum(values.values()) / len(values)
