"""The search itself: what may be combined, the trials, the finalists."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lmprog.compiler.findings import SpecError
from lmprog.errors import BudgetExceeded
from lmprog.evaluation import aevaluate
from lmprog.metrics import Scorer
from lmprog.optimizers.candidate import Candidate, Demo
from lmprog.optimizers.optimizer import Row, Task
from lmprog.optimizers.prompt_search import Choices, _halves
from lmprog.optimizers.prompt_search.config import Config
from lmprog.optimizers.prompt_search.demos import bootstrapped, draw_set, labelled
from lmprog.optimizers.prompt_search.proposers import Given, Proposer, Written
from lmprog.program import RunOptions
from lmprog.seeds import derive
from lmprog.statistics import estimate, paired

Values = dict[str, float]
"""Score by row index, as text: the plain form in which the journal keeps an evaluation."""


class Search:
    """One run of the `prompt_search` stage."""

    def __init__(self, task: Task, config: Config) -> None:
        self.task, self.config = task, config
        shuffled = list(task.dev)
        random.Random(derive(task.seed, "dev")).shuffle(shuffled)
        searched, _ = _halves(len(shuffled))
        self.searched, self.held = shuffled[:searched], shuffled[searched:]
        self.scored: dict[str, tuple[Candidate, Values]] = {}
        self.refused: set[str] = set()

    async def run(self) -> Candidate:
        choices = await self._choices()
        start = Candidate()
        self.scored[start.digest] = (start, await self._score(start, self.searched, "search"))
        self._tell(start, 0)
        try:
            await self._trials(choices)
            return await self._confirmed(start)
        except BudgetExceeded as error:
            # What is known by now decides; with nothing confirmed the program stays as it was.
            self.task.journal.tell("note", text=f"{error}; prompt_search ends with its best so far")
            return self._best_so_far(start)

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
        solved: dict[str, list[Demo]] = {}
        if any("demos" in parts for parts in tuned.values()) and self.config.bootstrap_rows:
            solved = await self._solved()
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
            sets: list[tuple[Demo, ...] | None] = [None]
            if "demos" in parts:
                pool = labelled(plan, module, task.train)
                pool += [demo for demo in solved.get(id, ()) if demo not in pool]
                counts = [count for count in self.config.demos if count <= len(pool)] or [len(pool)]
                for place in range(self.config.demo_sets if pool else 0):
                    seed = derive(task.seed, "demos", id, place)
                    sets.append(draw_set(module, pool, counts[place % len(counts)], seed))
            found.append(Choices(id, words, list({repr(drawn): drawn for drawn in sets}.values())))
            task.journal.tell("note", text=f"{id}: {len(words)} instructions, {len(found[-1].demos)} demo sets")
        return found

    async def _solved(self) -> dict[str, list[Demo]]:
        """By module, the demos that the program's own runs left behind on train rows that it solves."""
        task = self.task
        rows = random.Random(derive(task.seed, "bootstrap")).sample(
            list(task.train), min(self.config.bootstrap_rows, len(task.train))
        )

        async def work() -> dict[str, list[Demo]]:
            scores = await aevaluate(task.program, rows, task.metric, options=RunOptions(seed=task.seed))
            best = Scorer(task.program, task.metric).metric.range[1]
            modules = task.program.plan.modules.values()
            return {module.id: bootstrapped(module, scores.rows, best) for module in modules}

        kept: dict[str, list[Demo]] = await task.journal.once("bootstrap", work)
        return kept

    async def _trials(self, choices: Sequence[Choices]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=derive(self.task.seed, "tpe") % 2**32, n_startup_trials=max(4, self.config.trials // 2)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        names = {
            name: list(range(len(options)))
            for choice in choices
            for name, options in (
                (f"{choice.module}/instructions", choice.instructions),
                (f"{choice.module}/demos", choice.demos),
            )
            if len(options) > 1
        }
        if not names:
            self.task.journal.tell("note", text="nothing to combine: no other instructions, no demos")
            return
        # The program as it is was scored already: the sampler learns from it too.
        study.enqueue_trial(dict.fromkeys(names, 0))
        asked = 0
        # The sampler may ask for the same again; that costs nothing and counts for nothing, but it must end.
        while len(self.scored) + len(self.refused) <= self.config.trials and asked < 8 * self.config.trials:
            asked += 1
            trial = study.ask()
            picked = {name: trial.suggest_categorical(name, options) for name, options in names.items()}
            candidate = _combined(choices, picked)
            try:
                if candidate.digest not in self.scored:
                    values = await self._score(candidate, self.searched, "search")
                    self.scored[candidate.digest] = (candidate, values)
                    self._tell(candidate, len(self.scored) + len(self.refused) - 1)
            except SpecError as error:
                if candidate.digest not in self.refused:
                    self.refused.add(candidate.digest)
                    self.task.journal.record("refused", candidate=candidate.as_json(), findings=str(error))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                continue
            study.tell(trial, _mean(self.scored[candidate.digest][1]))

    async def _confirmed(self, start: Candidate) -> Candidate:
        """The best of the finalists over all dev rows, if the rows held back say that it is better than the start."""
        ranked = sorted(self.scored.values(), key=lambda scored: -_mean(scored[1]))
        finalists = [candidate for candidate, _ in ranked if candidate != start][: self.config.finalists]
        if not finalists:
            return start
        if not self.held:
            return self._best_so_far(start)
        before = await self._score(start, self.held, "held")
        held = {finalist.digest: await self._score(finalist, self.held, "held") for finalist in finalists}

        def everywhere(candidate: Candidate) -> float:
            searched = self.scored[candidate.digest][1]
            return sum([*searched.values(), *held[candidate.digest].values()])

        best = max(finalists, key=everywhere)
        return best if self._better(before, held[best.digest]) else start

    def _best_so_far(self, start: Candidate) -> Candidate:
        best, values = max(self.scored.values(), key=lambda scored: _mean(scored[1]))
        return best if best != start and self._better(self.scored[start.digest][1], values) else start

    def _better(self, before: Values, after: Values) -> bool:
        both = [row for row in before if row in after]
        difference = paired([before[row] for row in both], [after[row] for row in both])
        self.task.journal.record(
            "compared", what="best against start", difference=difference.as_json(), verdict=difference.verdict
        )
        return difference.significant_gain

    async def _score(self, candidate: Candidate, rows: Sequence[Row], part: str) -> Values:
        """Raises SpecError where a check refuses the candidate."""
        program = self.task.program.with_candidate(candidate)

        async def work() -> dict[str, Any]:
            scores = await aevaluate(program, rows, self.task.metric, options=RunOptions(seed=self.task.seed))
            _ = scores.estimate  # raises where nothing could be scored: an outage is no reason to choose
            return {str(row): value for row, value in scores.by_row.items()}

        kept: Mapping[str, float] = await self.task.journal.once(f"{part}/{candidate.digest}", work)
        return dict(kept)

    def _tell(self, candidate: Candidate, number: int) -> None:
        best = max(self.scored.values(), key=lambda scored: _mean(scored[1]))[1]
        values = list(self.scored[candidate.digest][1].values())
        self.task.journal.tell(
            "trial",
            number=number,
            of=self.config.trials,
            score=estimate(values).as_json(),
            best=estimate(list(best.values())).as_json(),
            demos={module: len(demos) for module, demos in candidate.demos.items()},
        )


def _combined(choices: Sequence[Choices], picked: Mapping[str, int]) -> Candidate:
    words = {c.module: c.instructions[picked.get(f"{c.module}/instructions", 0)] for c in choices}
    demos = {c.module: c.demos[picked.get(f"{c.module}/demos", 0)] for c in choices}
    return Candidate(
        {module: text for module, text in words.items() if text is not None},
        {module: [dict(demo) for demo in drawn] for module, drawn in demos.items() if drawn is not None},
    )


def _mean(values: Values) -> float:
    return sum(values.values()) / len(values)
