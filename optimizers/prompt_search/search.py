"""A run of `prompt_search`: trials on a minibatch, successive halving up to all choosing rows, then the finalists."""

from __future__ import annotations

from collections.abc import Sequence

from lmprog.errors import BudgetExceeded
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.prompt_search.choices import Choices, Gatherer, combined
from lmprog.optimizers.prompt_search.config import Config
from lmprog.optimizers.strategies.halving import Halving
from lmprog.optimizers.strategies.selectors import TPE, CandidateSelector
from lmprog.seeds import derive

MIN_SETS = 12
"""Demo sets of a module where the spec does not say how many: with few trials the selector still has a choice."""


class Search:
    """A run of the `prompt_search` stage."""

    def __init__(self, task: Task, config: Config) -> None:
        self.task, self.config = task, config
        self.evaluator = CandidateEvaluator(task, repeats=config.repeats, at_once=config.at_once)
        self.halving = Halving(len(self.evaluator.rows), config.minibatch, config.finalists)
        self.gatherer = Gatherer(task, config, config.demo_sets or max(MIN_SETS, config.trials))

    async def run(self) -> Candidate:
        """Return the best combination of options as a candidate; START, no change, where none beats the program as it
        is on the choosing dev rows. A budget that is spent after the program itself was scored is noted, and the scores
        so far decide; before, BudgetExceeded is raised. Raises ProviderError where outages leave nothing to score or
        the proposer's LM fails, and MetricFailed where the metric raises on every row."""
        await self.evaluator.evaluate(START)
        self.evaluator.tell(START, self.config.trials)
        try:
            choices = await self.gatherer.first()
            await self.gatherer.propose(choices, self.evaluator, self.config.proposals - self.config.proposals // 2)
            self._tell(choices)
            await self._trials(choices)
            await self._halve()
            return await self.evaluator.select(self.config.finalists)
        except BudgetExceeded as error:
            # What is known by now decides; with nothing confirmed the program stays as it was.
            self.task.journal.note(f"{error}; prompt_search ends with its best so far")
            return self.evaluator.best_so_far()

    def _tell(self, choices: Sequence[Choices]) -> None:
        if self.gatherer.proposer is None:
            searched = "demos, their number and order, layouts, and the instructions that stand in the spec"
            self.task.journal.note(f"no LM writes instructions: the search is over {searched}")
        for choice in choices:
            counts = (
                f"{len(choice.instructions)} instructions, {len(choice.demos)} demo sets, {len(choice.layouts)} layouts"
            )
            self.task.journal.note(f"{choice.module}: {counts}")

    async def _trials(self, choices: Sequence[Choices]) -> None:
        """Score combinations of `choices` on the minibatch; after half of the trials add instructions that the proposer writes
        in the light of the scores. Only note it where there is nothing to combine."""
        trials = self.config.trials
        options = _options(choices)
        if not options:
            self.task.journal.note("nothing to combine: no other instructions, demos or layouts")
            return
        doubted = [name for name in options if not name.endswith("/demos")]
        selector: CandidateSelector = TPE(options, derive(self.task.seed, "tpe"), max(4, trials // 2), doubted)
        asked, second, minibatch = 0, self.config.proposals // 2, self.halving.rungs()[0]
        # The selector may ask for the same again; that costs nothing and counts for nothing, but it must end.
        while self.evaluator.entered < trials and asked < 8 * trials:
            if second and self.evaluator.entered >= trials // 2:
                await self.gatherer.propose(choices, self.evaluator, second)
                selector.grow(_options(choices))
                second = 0
            next_stop = trials // 2 if second else trials
            most = min(self.config.at_once, next_stop - self.evaluator.entered)
            candidates = [combined(choices, picked) for picked in selector.ask(most)]
            asked += len(candidates)
            scores = await self.evaluator.enter(candidates, minibatch, trials)
            selector.tell(
                [None if scored is None else self.evaluator.mean_on(scored.candidate, minibatch) for scored in scores]
            )

    async def _halve(self) -> None:
        """Score the better half of the candidates on twice the rows, and so on, until those that are left are scored on all
        choosing rows; do nothing where there is no candidate."""
        below = self.halving.rungs()[0]
        candidates = len(self.evaluator.ranked(below))
        if not candidates:
            return
        for rows, count in self.halving.survivors(candidates):
            self.task.journal.note(f"the best {count} of {candidates} go on to {rows} rows")
            await self.evaluator.evaluate_all(self.evaluator.ranked(below)[:count], rows)
            below = rows


def _options(choices: Sequence[Choices]) -> dict[str, int]:
    return {name: count for choice in choices for name, count in choice.options().items()}
