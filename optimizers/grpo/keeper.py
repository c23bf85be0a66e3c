"""The keeper of a stage of weights: which step is the best on dev, and the last whole step that a resumed run goes on from."""

from __future__ import annotations

from typing import Any

from lmprog.optimizers.grpo.checkpoints import Checkpoints, Progress, by_row
from lmprog.optimizers.grpo.row_source import SamplerState
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.strategies import outages
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import Scores, aevaluate


class Keeper:
    """The choice of a training's best step by scores on the choosing dev rows, each of them run `repeats` times, and the
    record of the last whole step; made by a stage of weights.

    `before` are the scores before the first step, `best` the best step with its scores (None: no step has been scored).
    """

    def __init__(self, task: Task, repeats: int) -> None:
        self.task, self.repeats = task, repeats
        self.checkpoints = Checkpoints(task.journal.folder)
        self.before: Scores | None = None
        self.best: tuple[int, Scores] | None = None
        self.spent_before = task.budget.spent

    async def begin(self, program: Program) -> None:
        """Score the program before the first step, once even if the run is resumed; write the score to the journal.

        Raises ProviderError where outages left no row with a score, MetricFailed where the metric raised on all others,
        and BudgetExceeded; none is recorded, so that a resumed run scores again.
        """

        async def scored() -> Any:
            scores = (await self._score(program)).checked()
            _ = scores.estimate  # raises where nothing could be scored, before that is recorded for good
            return by_row(scores)

        self.before = Scores.of_values(self.task.metric, await self.task.journal.once("before", scored))
        self._record(0, self.before)

    def count_spending(self) -> None:
        """Count from now on what the training steps spend, for their checkpoints; amounts spent until now are not theirs."""
        self.spent_before = self.task.budget.spent

    def go_on(self) -> Progress | None:
        """Return the state at the last whole checkpoint of an earlier process, take over its best step, and charge what
        the steps until then had spent to the budget, so that it is called once; None where there is no checkpoint.
        """
        done = self.checkpoints.last()
        if done is not None:
            if done.best is not None:
                self.best = (done.best[0], Scores.of_values(self.task.metric, done.best[1]))
            self.task.budget.charge(done.spent, done.largest)
        return done

    async def is_best(self, step: int, program: Program) -> bool:
        """Score the program on the choosing dev rows after a step, record the score, and return whether it is better
        than after every earlier step, so that the step becomes `best`; the score before the training does not count.

        Return False, with a note in the journal, where outages left too many rows without a score. Raises ProviderError
        where no row has one, and BudgetExceeded.
        """
        scores = await self._score(program)
        self._record(step, scores)
        if not self._usable(scores):
            self.task.journal.note(self._complaint(f"step {step}", scores))
            return False
        if self.best is not None and scores.mean <= self.best[1].mean:
            return False
        self.best = (step, scores)
        return True

    def commit(self, step: int, state: SamplerState) -> None:
        """Make a step the last whole checkpoint, after the trainer has written its part, and delete earlier ones, but
        for the weights of the best step; `state` is that of the row source."""
        best = None if self.best is None else (self.best[0], by_row(self.best[1]))
        spent, largest = self.task.budget.spent.since(self.spent_before), self.task.budget.largest
        self.checkpoints.commit(Progress(step, state.taken, state.averages, best, spent, largest, state.levels))

    def chosen(self) -> int | None:
        """Return the step with the best weights by the choosing dev rows, and record its comparison with the program before;
        None where that has no better mean, or no step was scored.

        Return None too, with a note in the journal, where outages left too few rows of the program before with a score.
        """
        if self.best is None or self.before is None:
            return None
        if not self._usable(self.before):
            self.task.journal.note(self._complaint("the program before", self.before))
            return None
        step, scores = self.best
        difference = scores.against(self.before)
        verdict = "chosen" if difference.mean > 0 else "no better"
        what = f"step {step} against before, on the rows that choose"
        self.task.journal.record("compared", what=what, difference=difference.as_json(), verdict=verdict)
        return step if difference.mean > 0 else None

    async def _score(self, program: Program) -> Scores:
        options = RunOptions(seed=self.task.seed)
        return await aevaluate(program, self.task.dev, self.task.metric, repeats=self.repeats, options=options)

    def _record(self, step: int, scores: Scores) -> None:
        self.task.tell_spending()
        self.task.journal.record_step("dev", step, score=scores.estimate.as_json())

    def _usable(self, scores: Scores) -> bool:
        """Return whether outages left so few of the choosing rows without a score (at most 5%) that a choice may be made by
        the scores."""
        return not outages.too_many(len(scores.by_row), len(self.task.dev))

    def _complaint(self, whose: str, scores: Scores) -> str:
        return outages.complaint(whose, len(scores.by_row), len(self.task.dev))
