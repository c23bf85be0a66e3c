"""The rows of an `sft` stage: replies of good runs, in place of groups and advantages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import fmean
from typing import Any

from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.row_source import SamplerState, StepRows
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Wave, collect, examples_at
from lmprog.optimizers.grpo.sampling.teachers import Teachers, Unfit, teachers_of
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.replies import Best, TrainingReply, best_of
from lmprog.optimizers.strategies.demo_sources import labelled
from lmprog.seeds import derive
from lmprog.traces.record import Invocation

AT_ONCE = 64
"""Runs of the program that are at work together, and kept in the journal together."""


class Replies:
    """The source of training rows of `sft`: good replies, gathered before the first step with the weights the
    stage began with.
    """

    imitates = True

    def __init__(self, task: Task, options: Config, policy: Policy) -> None:
        self.task, self.options, self.policy = task, options, policy
        self.config = options.training()
        self.teachers = Teachers(
            teachers_of(task.program, self.config),
            task.program,
            task.train,
            Reward(task.program, task.metric, policy.modules, self.config),
            policy.lm_of,
        )
        self.state, self.clock = SamplerState(), Stopwatch()
        self.learnt: list[TrainingReply] = []

    async def begin(self) -> bool:
        """Gather the replies to learn; return False where there are none."""
        found = [*await self._of_runs(), *self._of_labels()]
        self.learnt = list(dict.fromkeys(found))
        if not self.learnt:
            self.task.journal.note(
                "no reply to learn: sft changes nothing; more samples, teachers or labelled rows may give some"
            )
            return False
        by_module = {id: sum(reply.module == id for reply in self.learnt) for id in sorted(self.policy.modules)}
        counts = ", ".join(f"{count} of {id}" for id, count in by_module.items())
        same = len(found) - len(self.learnt)
        self.task.journal.note(
            f"replies to learn: {counts}" + (f" ({same} more are equal to one of them)" if same else "")
        )
        return True

    async def before_first_step(self) -> None:
        """Do nothing, since the replies are gathered already."""

    def params(self) -> dict[str, dict[str, Any]]:
        """Return the sampling parameters of the runs that replies are taken from.

        The loss is that of the model's own distribution, whatever the runs are sampled at.
        """
        return self.policy.params(self.options.temperature_of)

    async def rows(self, step: int) -> StepRows:
        """Return the training rows of a step. Each epoch goes through all replies once, in an order of its own."""
        count, size = len(self.learnt), min(self.options.batch, len(self.learnt))
        order = examples_at(step * size, size, count, derive(self.task.seed, "replies"))
        batch = [self.learnt[number] for number in order]
        rows = [
            Row(
                reply.prompt_token_ids,
                reply.token_ids,
                1.0,
                reply.module,
                constraint=self.policy.constraint(reply),
                adapter=self.policy.place_of[reply.module],
            )
            for reply in batch
        ]
        return StepRows(rows, {"rows": len(batch), "reply_tokens": fmean(len(reply.token_ids) for reply in batch)})

    async def _of_runs(self) -> list[TrainingReply]:
        """Return the replies of the best runs, and note the outcome of the rows in the journal."""
        options = self.options
        each = options.samples + sum(teacher.rollouts for teacher in options.teachers)
        if not each:
            return []
        count = min(options.rows, len(self.task.train))
        chosen = examples_at(0, count, len(self.task.train), self.task.seed)
        found: list[Best] = []
        size = max(1, AT_ONCE // each)
        for first in range(0, count, size):
            work = partial(self._best, first, chosen[first : first + size])
            found.append(Best.from_json(await self.task.journal.once(f"runs/{first}", work)))
        runs, taught = sum(best.rows for best in found), sum(best.taught for best in found)
        wanted = "above the metric's lowest value" if options.at_least == "best" else f"of {options.at_least:g} or more"
        self.task.journal.note(
            f"of {runs} train rows {taught} have a run with a score {wanted}, {runs - taught} have none"
        )
        return [reply for best in found for reply in best.replies]

    async def _best(self, first: int, examples: list[int]) -> dict[str, Any]:
        """Return the replies to learn from the runs on some rows, as plain values."""
        seed = derive(self.task.seed, "runs", first)
        wave = await self.teachers.join(
            self._sampled(examples, seed), examples, seed, lambda example, rollout: self.policy.program
        )
        fit, _ = self.policy.served.drop_untrainable(wave.rollouts, self.policy.lm_of)
        options = self.options
        lowest = self.teachers.scorer.lowest
        return best_of(fit, self.policy.modules, options.at_least, options.keep, lowest).as_json()

    async def _sampled(self, examples: list[int], seed: int) -> Wave:
        if not self.options.samples:
            return Wave((), 0)
        return await collect(
            self.policy.program,
            self.task.train,
            examples,
            self.teachers.scorer,
            rollouts=self.options.samples,
            params=self.params(),
            format_failure=self.teachers.scorer.of_failures,
            seed=seed,
        )

    def _of_labels(self) -> Iterator[TrainingReply]:
        """Yield the outputs that the train rows label, written as the program would have to reply."""
        if not self.options.labelled:
            return
        plan = self.policy.program.plan
        for id in sorted(self.policy.modules):
            module = plan.modules[id]
            # An agent's last turn stands after others, which no row has.
            rows = [] if module.tools else labelled(plan, module, self.task.train)
            unfit = 0
            for values in examples_of(rows, self.options.labelled, derive(self.task.seed, "labelled", id)):
                try:
                    yield TrainingReply.of(self._written(id, values))
                except Unfit:
                    unfit += 1
            self.task.journal.note(
                f"{id}: {min(len(rows), self.options.labelled)} labelled rows"
                + (f", of which the program could not give {unfit}" if unfit else "")
            )

    def _written(self, id: str, values: Any) -> Invocation:
        module = self.policy.program.plan.modules[id]
        made = Invocation(
            program=self.policy.program.plan.name,
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
        return self.teachers.taught(made, self.policy.program.plan, self.policy.program)


def examples_of(rows: Any, most: int, seed: int) -> list[Any]:
    """Return at most `most` of the rows, in a random order by the seed."""
    return [rows[place] for place in examples_at(0, min(most, len(rows)), len(rows), seed)] if rows else []
