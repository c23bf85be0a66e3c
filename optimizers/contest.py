"""Candidates against each other on dev rows: what each scored, which were refused, and which replaces the program.

Candidates are scored on the searched rows, the finalists again on rows that no choice was made on; the best replaces the
program that the stage started from only where the acceptance, on those rows, says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.evaluation import aevaluate
from lmprog.optimizers.candidate import START as START
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.lineage import remember
from lmprog.optimizers.optimizer import Row, Task
from lmprog.optimizers.strategies.acceptance import Acceptance, PairedInterval, Values
from lmprog.optimizers.strategies.row_samplers import Halves, RowSampler
from lmprog.optimizers.strategies.screens import Screen, Screens
from lmprog.program import RunOptions
from lmprog.statistics import estimate


@dataclass(frozen=True)
class Scored:
    """A candidate with its scores on the first `rows` of the searched rows; a row that could not be scored is not in them."""

    candidate: Candidate
    values: Values
    rows: int


class Contest:
    """The candidates of one stage. Every evaluation is kept in the journal and done once in the life of a run.

    On the rows held back each row is run `repeats` times, and counts with its mean: for replies that are sampled.
    """

    def __init__(
        self,
        task: Task,
        rows: RowSampler | None = None,
        acceptance: Acceptance | None = None,
        screen: Screen | None = None,
        repeats: int = 1,
    ) -> None:
        self.task, self.repeats = task, repeats
        self.searched, self.held = (rows or Halves(task.seed)).split(task.dev)
        self.acceptance = acceptance or PairedInterval(task.journal)
        self.screen = screen or Screens(task)
        self.scored: dict[str, Scored] = {}
        self.refused: set[str] = set()

    @property
    def entered(self) -> int:
        """Candidates that were scored or refused, beside the start."""
        return len(self.scored) + len(self.refused) - 1

    async def enter(
        self, candidate: Candidate, rows: int | None = None, parents: Sequence[Candidate] = (START,)
    ) -> Scored | None:
        """Its scores on the first `rows` of the searched rows (None: on all), of which those that are known are not run again.

        None where a check or a screen refuses the candidate, and then it is never run. `parents` are what it was derived from.
        """
        wanted = len(self.searched) if rows is None else rows
        digest = candidate.digest
        known = self.scored.get(digest)
        if known is None:
            if self.refuses(candidate):
                return None
            known = Scored(candidate, {}, 0)
        if known.rows < wanted:
            more = await self._score(candidate, self.searched[known.rows : wanted], "search", known.rows)
            known = self.scored[digest] = Scored(candidate, {**known.values, **more}, wanted)
            self.remember(candidate, parents, known.values)
        return known

    def refuses(self, candidate: Candidate) -> bool:
        """Whether a check or a screen refuses the candidate; the first time it is recorded why."""
        if candidate.digest in self.refused:
            return True
        why = self.screen.refuses(candidate) if candidate != START else None
        if why is not None:
            self.refused.add(candidate.digest)
            self.task.journal.record("refused", candidate=candidate.as_json(), findings=why)
        return why is not None

    def remember(self, candidate: Candidate, parents: Sequence[Candidate], values: Values) -> None:
        """Keep the candidate's place and score for those who look at the run."""
        score = estimate(list(values.values()))
        remember(self.task.journal, self.task.program.plan, candidate, parents, score)

    def mean_on(self, candidate: Candidate, rows: int) -> float:
        """Its mean on the first `rows` of the searched rows, on which it was scored."""
        first = {str(row) for row in range(rows)}
        return mean({row: value for row, value in self.scored[candidate.digest].values.items() if row in first})

    def mean_with(self, module: str, instructions: str | None) -> float | None:
        """The mean of the candidates that have these instructions (None: the start's); None where there is none."""
        rows = min((scored.rows for scored in self.scored.values()), default=0)
        having = [
            self.mean_on(scored.candidate, rows)
            for scored in self.scored.values()
            if scored.candidate.instructions.get(module) == instructions
        ]
        return sum(having) / len(having) if having else None

    def ranked(self, rows: int) -> list[Candidate]:
        """The candidates that were scored on at least so many rows, by their mean on these, the best first."""
        found = [
            scored.candidate for scored in self.scored.values() if scored.candidate != START and scored.rows >= rows
        ]
        return sorted(found, key=lambda candidate: self.mean_on(candidate, rows), reverse=True)

    @property
    def best(self) -> Scored:
        """The best of those that were scored on the most rows, or the start where that is no worse on the same rows."""
        start = self.scored[START.digest]
        most = max((scored.rows for scored in self.scored.values() if scored is not start), default=0)
        ranked = self.ranked(most)
        if not ranked:
            return start
        rival = self.scored[ranked[0].digest]
        return rival if mean(rival.values) > self.mean_on(START, most) else start

    def tell(self, candidate: Candidate, of: int) -> None:
        """Show the newest candidate and the best so far; `of` is how many may come."""
        self.task.tell_spending()
        self.task.journal.tell(
            "trial",
            number=self.entered,
            of=of,
            score=estimate(list(self.scored[candidate.digest].values.values())).as_json(),
            best=estimate(list(self.best.values.values())).as_json(),
            demos={module: len(demos) for module, demos in candidate.demos.items()},
        )

    async def winner(self, finalists: int) -> Candidate:
        """The best of the finalists over all dev rows, if the rows held back say that it is better than the start."""
        chosen = self.ranked(len(self.searched))[:finalists]
        if not chosen:
            return START
        if not self.held:
            return self.best_so_far()
        before = await self._score(START, self.held, "held")
        held = {finalist.digest: await self._score(finalist, self.held, "held") for finalist in chosen}

        def everywhere(candidate: Candidate) -> float:
            searched = self.scored[candidate.digest].values
            return mean({**searched, **{f"held {row}": value for row, value in held[candidate.digest].items()}})

        best = max(chosen, key=everywhere)
        return best if self.acceptance.accepts(before, held[best.digest]) else START

    def best_so_far(self) -> Candidate:
        """As `winner`, by what is known already: for a search whose budget is spent."""
        best = self.best
        accepted = best.candidate != START and self.acceptance.accepts(self.scored[START.digest].values, best.values)
        return best.candidate if accepted else START

    async def _score(self, candidate: Candidate, rows: Sequence[Row], part: str, first: int = 0) -> Values:
        """Scores by index, which counts from `first`."""
        program, options = self.task.program.with_candidate(candidate), RunOptions(seed=self.task.seed)
        repeats = self.repeats if part == "held" else 1

        async def work() -> dict[str, Any]:
            scores = await aevaluate(program, rows, self.task.metric, repeats=repeats, options=options)
            if candidate == START:
                scores.checked()
            _ = scores.estimate  # raises where nothing could be scored: an outage is no reason to choose
            return {str(first + row): value for row, value in scores.by_row.items()}

        kept: Values = await self.task.journal.once(f"{part}/{candidate.digest}/{first}-{first + len(rows)}", work)
        return dict(kept)


def mean(values: Values) -> float:
    return sum(values.values()) / len(values)
