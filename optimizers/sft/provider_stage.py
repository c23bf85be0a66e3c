"""A run of the `sft` stage whose weights providers train, by their fine-tuning jobs. Imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.fine_tuning import trained_by_providers
from lmprog.compiler.plan import LM
from lmprog.errors import BudgetExceeded, ProviderError
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.grpo.credit import report_credit
from lmprog.optimizers.grpo.keeper import Keeper
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.sft.chat_replies import ChatReplies, ChatReply, Rows
from lmprog.optimizers.sft.config import Config
from lmprog.optimizers.sft.job import ProviderJob


class ProviderStage:
    """A run of `sft` in which providers train the weights: one fine-tuning job for each LM, then a scoring on the choosing
    rows.
    """

    def __init__(self, task: Task, options: Config) -> None:
        self.task, self.options = task, options
        self.tuned = trained_by_providers(task.program.plan)
        self.modules = frozenset[str]().union(*self.tuned.values())
        self.keeper = Keeper(task, options.repeats)
        self.gathering = ChatReplies(task, options, self.modules)

    def run(self) -> Candidate:
        """Train by the providers' jobs, and return the trained models as a candidate; START, no change, where the program is
        no better with them on the choosing dev rows, or no job has enough replies to learn.

        Raises ProviderError where a job fails or outages leave no row scored, MetricFailed where the metric raises in
        all runs, BudgetExceeded where the budget does not reach for the runs, a job or the scoring, and UsageError
        where a budget in usd cannot be kept. A resumed run goes on with the jobs that were begun.
        """
        with asyncio.Runner() as runner:
            return runner.run(self._run())

    async def _run(self) -> Candidate:
        await self.keeper.begin(self.task.program)
        work = self._work(await self.gathering.gather())
        if not work:
            return START
        # The jobs run at the same time, and are charged when they end: each must leave room for the others.
        usd = [job.estimated_usd(rows) for job, rows in work]
        found = await asyncio.gather(
            *(job.trained(rows, sum(usd) - own) for (job, rows), own in zip(work, usd, strict=True))
        )
        change = Candidate(
            models={job.lm.id: model_of(job.lm, model) for (job, _), model in zip(work, found, strict=True)}
        )
        tuned = self.task.program.with_candidate(change)
        self._note_prices(job.lm for job, _ in work)
        try:
            await self.keeper.is_best(1, tuned)
        except BudgetExceeded as error:
            self.task.journal.note(f"{error}: {', '.join(found)} has come out of the job, and is not scored")
            raise
        except ProviderError as error:
            fixes = [job.provider.not_deployed(model) for (job, _), model in zip(work, found, strict=True)]
            fix = next((fix for fix in fixes if fix), "")
            raise ProviderError(f"{error}; {fix}" if fix else str(error)) from error
        chosen = change if self.keeper.chosen() is not None else START
        scorer = self.gathering.teachers.scorer
        await report_credit(
            self.task,
            tuned if chosen is change else self.task.program,
            self.options.credit,
            self.gathering.params(),
            scorer.of_failures,
        )
        return chosen

    def _work(self, replies: Sequence[ChatReply]) -> list[tuple[ProviderJob, Rows]]:
        """Return the jobs with their rows; LMs without replies to learn, or whose rows the provider does not take, are left
        out."""
        lms = self.task.program.plan.lms
        work = []
        for lm, modules in self.tuned.items():
            learnt = [reply for reply in replies if reply.module in modules]
            job = ProviderJob(self.task, lms[lm], self.options.job)
            rows = job.rows(learnt) if learnt else None
            if rows is not None:
                work.append((job, rows))
        return work

    def _note_prices(self, lms: Any) -> None:
        for lm in lms:
            if {"input", "output"} & {*(lm.price or {})}:
                self.task.journal.note(
                    f"lms.{lm.id}.price is that of {lm.model}: the model that came out may cost more; the overlay may say"
                )


def model_of(lm: LM, model: str) -> Mapping[str, Any]:
    """Return the settings of an LM that change, as an overlay has them: `model`, and `trusted` where it was; the same
    provider at the same address is trusted as before."""
    return {"model": model, "trusted": True} if lm.trusted else {"model": model}
