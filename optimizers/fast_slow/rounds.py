"""A prompt round: what the population scores under the weights of now, what is tried beside it, and what is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.evaluation import CandidateEvaluator
from lmprog.optimizers.fast_slow.config import Config
from lmprog.optimizers.filters import Filter, Filters
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.prompt_search.choices import Choices, Gatherer
from lmprog.optimizers.strategies.fronts import Front, Pareto
from lmprog.runtime.program import Program
from lmprog.scoring.statistics import estimate
from lmprog.seeds import derive

Population = Sequence[Candidate]
"""The candidates that are kept, the best of all first."""


class Rounds:
    """The prompt rounds of a stage, by number from 0; each is recorded in the journal, so that a resumed run does not repeat
    it. `front` chooses the population (None: the Pareto front), `filters` which candidates are never run (None: leaks of dev
    rows and the compiler's checks)."""

    def __init__(self, task: Task, config: Config, front: Front | None = None, filters: Filter | None = None) -> None:
        self.task, self.config = task, config
        self.front = front or Pareto()
        self.filters = filters or Filters(task)

    def kept(self, number: int) -> Population:
        """Return the population that prompt round `number` has recorded, as changes of words, the best first; START alone, the
        words that the stage began with, for a round that has not ended (-1: before the first).
        """
        found = self.task.journal.part(f"round-{number}").recall("population")
        return [Candidate.from_json(member) for member in found] if found is not None else [START]

    async def hold(self, number: int, step: int, program: Program) -> None:
        """Do prompt round `number`, after training step `step`: score the population of the round before and new
        candidates on the first `rows` choosing dev rows, and record which of them are the new population.

        `program` has the present weights. What the journal has of the round is not run again. Raises ProviderError
        where outages leave nothing to score, and BudgetExceeded.
        """
        seed = derive(self.task.seed, "round", number)
        journal = self.task.journal.part(f"round-{number}")
        task = replace(self.task, program=program, journal=journal, seed=seed)
        evaluator = CandidateEvaluator(task, self.task.dev[: self.config.rows], filters=self.filters)
        before = self.kept(number - 1)
        for member in before:
            await evaluator.evaluate(member)
        choices = await self._choices(task, evaluator, before)
        await self._try(evaluator, choices, before, seed)
        scored = list(evaluator.scored.values())
        # What an outage has cut is left out, but where that would leave nothing.
        whole = [one for one in scored if one.usable] or scored
        kept = [whole[place] for place in self.front.kept([one.values for one in whole], self.config.population)]
        if journal.recall("population") is None:
            journal.keep("population", [one.candidate.as_json() for one in kept])
        self.task.tell_spending()
        self.task.journal.record_step(
            "round",
            step,
            best=estimate(list(kept[0].values.values())).as_json(),
            members=[one.candidate.digest for one in kept],
            tried=len(scored) - len(before),
            refused=len(evaluator.refused),
        )

    async def _choices(self, task: Task, evaluator: CandidateEvaluator, population: Population) -> list[Choices]:
        """Return the instructions, demo sets and layouts that candidates may be made of, those of the population and new
        instructions by the proposer among them."""
        gatherer = Gatherer(task, self.config, self.config.demo_sets)
        choices = await gatherer.first()
        for choice in choices:
            for member in population:
                for part, options in _parts(choice).items():
                    own = getattr(member, part).get(choice.module)
                    if own is not None and own not in options:
                        options.append(own)
        await gatherer.propose(choices, evaluator, self.config.proposals)
        return choices

    async def _try(
        self, evaluator: CandidateEvaluator, choices: Sequence[Choices], population: Population, seed: int
    ) -> None:
        """Score `trials` new candidates, or those that are found in 8 times as many draws, each made of one of the
        population; only note it where there is nothing to change."""
        if not any(choice.options() for choice in choices):
            self.task.journal.note(
                "there is no other prompt to try: name instructions, a proposer, or demos under tune"
            )
            return
        tried = asked = 0
        # The same may be drawn again; that costs nothing and counts for nothing, but it must end.
        while tried < self.config.trials and asked < 8 * self.config.trials:
            draw = random.Random(derive(seed, "child", asked))
            asked += 1
            parent = draw.choice(population)
            child = varied(parent, choices, draw)
            if child.digest not in evaluator.scored and child.digest not in evaluator.refused:
                await evaluator.evaluate(child, parents=[parent])
                tried += 1


def varied(parent: Candidate, choices: Sequence[Choices], draw: random.Random) -> Candidate:
    """Return `parent` with some parts of its modules (instructions, demos, layout) replaced by options of `choices` drawn
    at random.

    Each part with more than one option is drawn with a probability of a half, and at least one is, so that there must be one;
    the option drawn may be the one that `parent` has.
    """
    parts = [
        (choice.module, part, options)
        for choice in choices
        for part, options in _parts(choice).items()
        if len(options) > 1
    ]
    drawn = [place for place in range(len(parts)) if draw.random() < 0.5] or [draw.randrange(len(parts))]
    changed: dict[str, dict[str, Any]] = {
        part: dict(getattr(parent, part)) for part in ("instructions", "demos", "layouts")
    }
    for module, part, options in (parts[place] for place in drawn):
        option = draw.choice(options)
        if option is None:
            changed[part].pop(module, None)
        else:
            changed[part][module] = [dict(demo) for demo in option] if part == "demos" else option
    return replace(parent, **changed)


def _parts(choice: Choices) -> dict[str, list[Any]]:
    """Return the options of each part of a candidate, by the part's name in it."""
    return {"instructions": choice.instructions, "demos": choice.demos, "layouts": choice.layouts}
