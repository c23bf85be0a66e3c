"""The rows of an `sft` stage in this process: replies of good runs, in place of groups and advantages."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.row_source import SamplerState, StepRows
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, examples_at
from lmprog.optimizers.grpo.sampling.teachers import Teachers, teachers_of
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.gathering import Gathering
from lmprog.optimizers.sft.replies import TrainingReply
from lmprog.seeds import derive
from lmprog.traces.record import Invocation


class Replies(Gathering[TrainingReply]):
    """The source of training rows of `sft` in this process: good replies, gathered before the first training step by runs
    with the weights that the stage began with.
    """

    imitates = True

    def __init__(self, task: Task, options: Config, policy: Policy) -> None:
        self.policy, self.config = policy, options.training()
        scorer = Reward(task.program, task.metric, policy.modules, self.config)
        own = teachers_of(task.program, self.config)
        teachers = Teachers(own, task.program, task.train, scorer, policy.lm_of)
        super().__init__(task, options, policy.program, policy.modules, teachers)
        self.state, self.clock = SamplerState(), Stopwatch()
        self.learnt: list[TrainingReply] = []

    async def begin(self) -> bool:
        """Gather the replies to learn, or read them from the journal; return False where there are none. Raises the
        errors of `gather`."""
        self.learnt = await self.gather()
        return bool(self.learnt)

    async def before_first_step(self) -> None:
        """Do nothing, since the replies are gathered already."""

    def reply_of(self, made: Invocation) -> TrainingReply | None:
        return TrainingReply.of(made)

    def read(self, kept: Sequence[Any]) -> TrainingReply:
        return TrainingReply.from_json(kept)

    def fit(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        found, _ = self.policy.served.drop_untrainable(rollouts, self.policy.lm_of)
        return found

    def params(self) -> dict[str, dict[str, Any]]:
        """Return by module the sampling parameters (`temperature`, `top_p`, `top_k`) of the runs from which replies are
        taken.

        Training follows the model's own distribution, whatever these are.
        """
        return self.policy.params(self.options.temperature_of)

    async def rows(self, step: int) -> StepRows:
        """Return the training rows of the update that follows `step`: `batch` replies, or all where there are fewer,
        with their number and mean length in tokens as metrics. Each epoch goes through all replies once, in an order of
        its own; the next may begin within a batch."""
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
