"""Candidates against each other on dev rows: what each scored, which were refused, and which replaces the program.

Candidates are scored on the searched rows, the finalists again on rows that no choice was made on; the best replaces the
program that the stage started from only where the acceptance, on those rows, says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmprog.evaluation import aevaluate
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.lineage import remember
from lmprog.optimizers.optimizer import Row, Task
from lmprog.optimizers.strategies.acceptance import Acceptance, PairedInterval, Values
from lmprog.optimizers.strategies.row_samplers import Halves, RowSampler
from lmprog.optimizers.strategies.screens import Screen, Screens
from lmprog.program import RunOptions
from lmprog.statistics import estimate

START = Candidate()
"""The program as the stage got it."""


class Contest:
    """The candidates of one stage. Every evaluation is kept in the journal and done once in the life of a run."""

    def __init__(
        self,
        task: Task,
        rows: RowSampler | None = None,
        acceptance: Acceptance | None = None,
        screen: Screen | None = None,
    ) -> None:
        self.task = task
        self.searched, self.held = (rows or Halves(task.seed)).split(task.dev)
        self.acceptance = acceptance or PairedInterval(task.journal)
        self.screen = screen or Screens(task)
        self.scored: dict[str, tuple[Candidate, Values]] = {}
        self.refused: set[str] = set()

    @property
    def entered(self) -> int:
        """Candidates that were scored or refused, beside the start."""
        return len(self.scored) + len(self.refused) - 1

    async def enter(self, candidate: Candidate, parents: Sequence[Candidate] = (START,)) -> Values | None:
        """Its scores on the searched rows; None where a check or a screen refuses it, and then it is never run.

        `parents` are the candidates that it was derived from.
        """
        digest = candidate.digest
        if digest not in self.scored and not self.refuses(candidate):
            self.scored[digest] = (candidate, await self._score(candidate, self.searched, "search"))
            self.remember(candidate, parents, self.scored[digest][1])
        return self.scored[digest][1] if digest in self.scored else None

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

    @property
    def best(self) -> tuple[Candidate, Values]:
        """The candidate with the best mean on the searched rows, the first of equals."""
        return max(self.scored.values(), key=lambda scored: mean(scored[1]))

    def tell(self, candidate: Candidate, of: int) -> None:
        """Show the newest candidate and the best so far; `of` is how many may come."""
        values = self.scored[candidate.digest][1]
        self.task.tell_spending()
        self.task.journal.tell(
            "trial",
            number=self.entered,
            of=of,
            score=estimate(list(values.values())).as_json(),
            best=estimate(list(self.best[1].values())).as_json(),
            demos={module: len(demos) for module, demos in candidate.demos.items()},
        )

    async def winner(self, finalists: int) -> Candidate:
        """The best of the finalists over all dev rows, if the rows held back say that it is better than the start."""
        ranked = sorted(self.scored.values(), key=lambda scored: -mean(scored[1]))
        chosen = [candidate for candidate, _ in ranked if candidate != START][:finalists]
        if not chosen:
            return START
        if not self.held:
            return self.best_so_far()
        before = await self._score(START, self.held, "held")
        held = {finalist.digest: await self._score(finalist, self.held, "held") for finalist in chosen}

        def everywhere(candidate: Candidate) -> float:
            searched = self.scored[candidate.digest][1]
            return sum([*searched.values(), *held[candidate.digest].values()])

        best = max(chosen, key=everywhere)
        return best if self.acceptance.accepts(before, held[best.digest]) else START

    def best_so_far(self) -> Candidate:
        """As `winner`, by what is known already: for a search whose budget is spent."""
        best, values = self.best
        return best if best != START and self.acceptance.accepts(self.scored[START.digest][1], values) else START

    async def _score(self, candidate: Candidate, rows: Sequence[Row], part: str) -> Values:
        program = self.task.program.with_candidate(candidate)

        async def work() -> dict[str, Any]:
            scores = await aevaluate(program, rows, self.task.metric, options=RunOptions(seed=self.task.seed))
            _ = scores.estimate  # raises where nothing could be scored: an outage is no reason to choose
            return {str(row): value for row, value in scores.by_row.items()}

        kept: Values = await self.task.journal.once(f"{part}/{candidate.digest}", work)
        return dict(kept)


def mean(values: Values) -> float:
    return sum(values.values()) / len(values)
