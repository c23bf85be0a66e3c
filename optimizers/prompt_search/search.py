"""The search itself: what may be combined, and the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from lmprog.errors import BudgetExceeded
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.contest import START, Contest, mean
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.prompt_search import Choices
from lmprog.optimizers.prompt_search.config import Config
from lmprog.optimizers.strategies.demo_sources import Labelled, Pool, Solved, draw_set
from lmprog.optimizers.strategies.proposers import Given, Proposer, Written
from lmprog.optimizers.strategies.selectors import TPE, CandidateSelector
from lmprog.seeds import derive


class Search:
    """One run of the `prompt_search` stage."""

    def __init__(self, task: Task, config: Config) -> None:
        self.task, self.config = task, config
        self.contest = Contest(task)

    async def run(self) -> Candidate:
        choices = await self._choices()
        await self.contest.enter(START)
        self.contest.tell(START, self.config.trials)
        try:
            await self._trials(choices)
            return await self.contest.winner(self.config.finalists)
        except BudgetExceeded as error:
            # What is known by now decides; with nothing confirmed the program stays as it was.
            self.task.journal.tell("note", text=f"{error}; prompt_search ends with its best so far")
            return self.contest.best_so_far()

    async def _choices(self) -> list[Choices]:
        """Instructions and demo sets for each tuned module."""
        task, plan = self.task, self.task.program.plan
        assert plan.optimize is not None
        tuned = plan.optimize.tune
        proposers: list[Proposer] = [Given()]
        if plan.optimize.proposer is not None:
            proposer = plan.optimize.proposer
            declared = plan.lms[proposer]
            lm = task.budget.meter(task.program.lms[proposer], declared)
            proposers.append(Written(lm, declared.params, task.seed))
        given: Mapping[str, Pool] = {}
        solved: Mapping[str, Pool] = {}
        if any("demos" in parts for parts in tuned.values()):
            given = await Labelled().demos(task)
            if self.config.bootstrap_rows:
                solved = await Solved(self.config.bootstrap_rows).demos(task)
        found = []
        for id, parts in tuned.items():
            module = plan.modules[id]
            words: list[str | None] = [None]
            if "instructions" in parts:
                for number, source in enumerate(proposers):
                    kept = await task.journal.once(
                        f"instructions/{id}/{number}",
                        partial(source.propose, plan, module, task.train, self.config.proposals),
                    )
                    words += kept
            sets: list[Pool | None] = [None]
            if "demos" in parts:
                pool = list(given[id])
                pool += [demo for demo in solved.get(id, ()) if demo not in pool]
                counts = [count for count in self.config.demos if count <= len(pool)] or [len(pool)]
                for place in range(self.config.demo_sets if pool else 0):
                    seed = derive(task.seed, "demos", id, place)
                    sets.append(draw_set(module, pool, counts[place % len(counts)], seed))
            found.append(Choices(id, words, list({repr(drawn): drawn for drawn in sets}.values())))
            task.journal.tell("note", text=f"{id}: {len(words)} instructions, {len(found[-1].demos)} demo sets")
        return found

    async def _trials(self, choices: Sequence[Choices]) -> None:
        options = {
            name: len(options)
            for choice in choices
            for name, options in (
                (f"{choice.module}/instructions", choice.instructions),
                (f"{choice.module}/demos", choice.demos),
            )
            if len(options) > 1
        }
        if not options:
            self.task.journal.tell("note", text="nothing to combine: no other instructions, no demos")
            return
        trials = self.config.trials
        selector: CandidateSelector = TPE(options, derive(self.task.seed, "tpe"), startup=max(4, trials // 2))
        asked = 0
        # The selector may ask for the same again; that costs nothing and counts for nothing, but it must end.
        while self.contest.entered < trials and asked < 8 * trials:
            asked += 1
            candidate = combined(choices, selector.ask())
            before = self.contest.entered
            values = await self.contest.enter(candidate)
            if values is not None and self.contest.entered > before:
                self.contest.tell(candidate, trials)
            selector.tell(None if values is None else mean(values))


def combined(choices: Sequence[Choices], picked: Mapping[str, int]) -> Candidate:
    """The candidate that takes the picked option of each module; what is not picked stays as it is."""
    words = {c.module: c.instructions[picked.get(f"{c.module}/instructions", 0)] for c in choices}
    demos = {c.module: c.demos[picked.get(f"{c.module}/demos", 0)] for c in choices}
    return Candidate(
        {module: text for module, text in words.items() if text is not None},
        {module: [dict(demo) for demo in drawn] for module, drawn in demos.items() if drawn is not None},
    )
