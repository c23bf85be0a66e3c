"""Gathering of the replies that a stage learns: of good runs on train rows, of teachers, and of labelled rows.

Imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Generic

from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave, collect, examples_at
from lmprog.optimizers.grpo.sampling.teachers import Teachers, Unfit
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.replies import Best, R, best_of
from lmprog.optimizers.strategies.demo_sources import labelled
from lmprog.runtime.program import Program
from lmprog.seeds import derive
from lmprog.traces.record import Invocation

AT_ONCE = 64
"""About so many runs of the program and its teachers are at work together, and kept in the journal together."""


class Gathering(ABC, Generic[R]):
    """The gathering of the replies to learn of the modules in training, from runs of `program` and of teachers and from
    labelled rows; replies from runs are kept in the journal."""

    def __init__(
        self, task: Task, options: Config, program: Program, modules: frozenset[str], teachers: Teachers
    ) -> None:
        self.task, self.options, self.program, self.modules, self.teachers = task, options, program, modules, teachers

    @abstractmethod
    def reply_of(self, made: Invocation) -> R | None:
        """Return the reply to learn from an LM call of a module in training; None where it gives none. `made` is the record
        of the call."""

    @abstractmethod
    def read(self, kept: Sequence[Any]) -> R:
        """Return a reply to learn from its plain values in the journal, as its `as_json` returned them."""

    @abstractmethod
    def params(self) -> dict[str, dict[str, Any]]:
        """Return by trained module the sampling parameters that override the module's own in the program's runs from
        which replies are taken: the stage's option `temperature`, and where weights are trained here, the values of
        `top_p` and `top_k` that switch truncation off.

        Teachers keep their own parameters.
        """

    def fit(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        """Return the rollouts without calls that cannot be learnt from; unchanged here, subclasses may drop some."""
        return rollouts

    async def gather(self) -> list[R]:
        """Return the replies to learn, equal ones once, and note their number in the journal; empty where there are none.

        The runs that are not recorded yet are made, in parts of about AT_ONCE (64) runs. Raises ProviderError where
        outages ended all runs of the program in a part (or of a teacher, before it had one with a score), MetricFailed
        where the metric raised in all of these, BudgetExceeded, and LmprogError where none of a server's replies can be
        trained.
        """
        found = [*await self._of_runs(), *self._of_labels()]
        learnt = list(dict.fromkeys(found))
        if not learnt:
            self.task.journal.note(
                "no reply to learn: sft changes nothing; more samples, teachers or labelled rows may give some"
            )
            return []
        by_module = {id: sum(reply.module == id for reply in learnt) for id in sorted(self.modules)}
        counts = ", ".join(f"{count} of {id}" for id, count in by_module.items())
        same = len(found) - len(learnt)
        self.task.journal.note(
            f"replies to learn: {counts}" + (f" ({same} more are equal to one of them)" if same else "")
        )
        return learnt

    async def _of_runs(self) -> list[R]:
        """Return the replies of the best runs, and note the outcome of the rows in the journal; none where the options ask for
        no runs. Runs that the journal has are not made again."""
        options = self.options
        each = options.samples + sum(teacher.rollouts for teacher in options.teachers)
        if not each:
            return []
        count = min(options.rows, len(self.task.train))
        chosen = examples_at(0, count, len(self.task.train), self.task.seed)
        found: list[Best[R]] = []
        size = max(1, AT_ONCE // each)
        for first in range(0, count, size):
            work = partial(self._best, first, chosen[first : first + size])
            found.append(Best.from_json(await self.task.journal.once(f"runs/{first}", work), self.read))
        runs, taught = sum(best.rows for best in found), sum(best.taught for best in found)
        wanted = "above the metric's lowest value" if options.at_least == "best" else f"of {options.at_least:g} or more"
        self.task.journal.note(
            f"of {runs} train rows {taught} have a run with a score {wanted}, {runs - taught} have none"
        )
        return [reply for best in found for reply in best.replies]

    async def _best(self, first: int, examples: list[int]) -> dict[str, Any]:
        """Run the program and its teachers on some train rows (their indices in `examples`), and return the replies to learn
        as plain values; `first` is the place of the first of these rows, by which the seeds of the runs differ."""
        seed = derive(self.task.seed, "runs", first)
        wave = await self.teachers.join(
            self._sampled(examples, seed), examples, seed, lambda example, rollout: self.program
        )
        options, lowest = self.options, self.teachers.scorer.lowest
        fit = self.fit(wave.rollouts)
        return best_of(fit, self.modules, options.at_least, options.keep, lowest, self.reply_of).as_json()

    async def _sampled(self, examples: list[int], seed: int) -> Wave:
        if not self.options.samples:
            return Wave((), 0)
        return await collect(
            self.program,
            self.task.train,
            examples,
            self.teachers.scorer,
            rollouts=self.options.samples,
            params=self.params(),
            format_failure=self.teachers.scorer.of_failures,
            seed=seed,
        )

    def _of_labels(self) -> Iterator[R]:
        """Yield the outputs that the train rows label, written as the program would have to reply; none for agents, and none
        where the option `labelled` is 0. Their numbers are noted in the journal."""
        if not self.options.labelled:
            return
        plan = self.program.plan
        for id in sorted(self.modules):
            module = plan.modules[id]
            # An agent's last turn stands after others, which no row has.
            rows = [] if module.tools else labelled(plan, module, self.task.train, self.options.accepted)
            unfit = 0
            for values in examples_of(rows, self.options.labelled, derive(self.task.seed, "labelled", id)):
                try:
                    reply = self.reply_of(self._written(id, values))
                except Unfit:
                    unfit += 1
                    continue
                if reply is not None:
                    yield reply
            self.task.journal.note(
                f"{id}: {min(len(rows), self.options.labelled)} labelled rows"
                + (f", of which the program could not give {unfit}" if unfit else "")
            )

    def _written(self, id: str, values: Any) -> Invocation:
        module = self.program.plan.modules[id]
        made = Invocation(
            program=self.program.plan.name,
            module=id,
            path="",
            call=0,
            example=0,
            rollout=0,
            inputs={name: values[name] for name in module.inputs},
            messages=(),
            text=None,
            outputs={name: values[name] for name in module.outputs},
        )
        return self.teachers.taught(made, self.program.plan, self.program)


def examples_of(rows: Any, most: int, seed: int) -> list[Any]:
    """Return at most `most` of the rows, each once, in a random order that follows from the seed."""
    return [rows[place] for place in examples_at(0, min(most, len(rows)), len(rows), seed)] if rows else []
