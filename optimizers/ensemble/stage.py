"""The `ensemble` stage: the best programs so far are scored again, and ensembles of the best 3, 5 and so on beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmprog.errors import BudgetExceeded
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.ensemble.config import Config
from lmprog.optimizers.evaluation import CandidateEvaluator, Scored, Values, mean
from lmprog.optimizers.filters import Checks
from lmprog.optimizers.finalists import Finalists
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.run_counts import ensemble_sizes
from lmprog.runtime.program import Program


class _Evaluator(CandidateEvaluator):
    """The scoring of changes to the program as written (`written`, with the adapters of the best so far), and not to the
    stage's start: an ensemble, or one of its members, has the words of no stage below it."""

    def __init__(self, task: Task, written: Program) -> None:
        super().__init__(task, filters=Checks(written))
        self.written = written

    def program_of(self, candidate: Candidate) -> Program:
        return self.written.with_candidate(candidate) if candidate != START else self.task.program

    def remember(self, candidate: Candidate, parents: Sequence[Candidate], values: Values) -> None:
        # The others stand among the candidates of the stages that found them.
        if candidate == START or candidate.ensemble:
            super().remember(candidate, parents, values)


class Assembly:
    """A run of the `ensemble` stage: it scores the best programs again, and ensembles of the best 3, 5 and so on."""

    def __init__(
        self, task: Task, config: Config, ensemble_of: Callable[[Program, Sequence[Mapping[str, Any]]], Candidate]
    ) -> None:
        """Set up the run; `ensemble_of` returns the candidate for an ensemble of a program, from the settings by module of
        its members, and `task.finalists` must be there."""
        assert task.finalists is not None
        self.task, self.config, self.ensemble_of = task, config, ensemble_of
        self.found: Finalists = task.finalists()
        self.sizes = ensemble_sizes(config.members)
        self.most = config.members - 1 + len(self.sizes)
        self.evaluator = _Evaluator(task, self.found.program)

    async def run(self) -> Candidate:
        """Return the ensemble with the highest mean on the choosing dev rows; START, no change, where none beats the
        program that the stage began with, or there are too few programs. A budget that is spent after that program was
        scored is noted, and the scores so far decide. Raises BudgetExceeded before, ProviderError where outages leave a
        program or an ensemble without a score, and MetricFailed where the metric raised on every row of that
        program."""
        await self.evaluator.evaluate(START)
        self.evaluator.tell(START, self.most)
        tried: list[Scored] = []
        try:
            members = await self._members()
            for size in self.sizes:
                if size > len(members):
                    self.task.journal.note(f"the stages before have left {len(members)} programs, too few for {size}")
                    break
                candidate = self.ensemble_of(self.found.program, members[:size])
                scored = await self.evaluator.evaluate(candidate)
                if scored is None:
                    self.task.journal.note("an ensemble is refused by a check, as `lmprog candidates` shows")
                    break
                tried.append(scored)
                self.evaluator.tell(candidate, self.most)
        except BudgetExceeded as error:
            self.task.journal.note(f"{error}; ensemble ends with its best so far")
        return self.evaluator.better(self.evaluator.scored[START.digest], tried)

    async def _members(self) -> list[Mapping[str, Any]]:
        """Return for each program the settings of the modules that it changes, by module; the best program first, of equal
        ones the one that was found best before. Those that a check rejects or outages cut are left out."""
        best, *others = self.found.words
        scores = [(best, self.evaluator.scored[START.digest])]
        for words in others[: self.config.members - 1]:
            scored = await self.evaluator.evaluate(words)
            if scored is not None:
                self.evaluator.tell(words, self.most)
            if scored is not None and scored.usable:
                scores.append((words, scored))
        scores.sort(key=lambda pair: mean(pair[1].values), reverse=True)
        return [words.as_overlay().get("modules", {}) for words, _ in scores]
