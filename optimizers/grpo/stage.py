"""A stage that trains weights: the loop of samples and updates, and which adapters come out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from lmprog.aio.loops import run_async
from lmprog.errors import BudgetExceeded
from lmprog.optimizers import processes
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.grpo.beside import Beside
from lmprog.optimizers.grpo.checkpoints import Progress
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.credit import report_credit
from lmprog.optimizers.grpo.keeper import Keeper
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.pipeline import Pipeline
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.prompts import OwnPrompts, Prompts
from lmprog.optimizers.grpo.reports import check
from lmprog.optimizers.grpo.row_source import RowSource, SamplerState
from lmprog.optimizers.grpo.sampler import Sampler
from lmprog.optimizers.grpo.sampling.adapters import change_in, models_in
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.train_request import TrainRequest
from lmprog.optimizers.optimizer import Task

T = TypeVar("T")


class WeightStage:
    """A run of a stage that trains weights in this process: a source of training rows, a keeper of the best weights, and the
    loop of updates. `name` is that of the stage for messages, `prompts` chooses the prompts of each step.

    Raises LmprogError where the option `report_to` names a tracker that is not there.
    """

    def __init__(self, name: str, task: Task, policy: Policy, source: RowSource, prompts: Prompts) -> None:
        self.name, self.task, self.policy, self.source, self.prompts = name, task, policy, source, prompts
        self.keeper = Keeper(task, source.config.repeats)
        self.health: Mapping[str, Any] = {}
        """The health metrics of the step at work, by name."""
        self.runner = asyncio.Runner()
        self._beside = Beside()
        check(source.config.report_to, name)

    def run(self) -> Candidate:
        """Train, and return the weights of the best step as a candidate, with the words that they were best with; START, no
        change, where no step is better than the start or there is nothing to train on.

        A resumed run goes on from its last whole checkpoint. A spent budget ends the training, and the best step so far
        counts. Raises BudgetExceeded where it is spent by the scores of the start or in `begin`, ProviderError where
        outages leave nothing to score or to train on, and MetricFailed where the metric raises in all runs.
        """
        # One event loop for the whole stage: it cancels what still runs when Ctrl-C ends the run.
        with self.runner:
            self.runner.run(self.keeper.begin(self.prompts.scored(0, self.policy.program)))
            begun = self.begin()
            self.keeper.count_spending()
            done = self.keeper.go_on()
            if done is not None:
                self.source.state = SamplerState(done.taken, dict(done.averages), dict(done.levels))
                self.task.journal.tell("note", text=f"{self.name} goes on after step {done.step}")
            if begun and (done is None or done.step < self.source.config.steps):
                self.train(done)
        chosen = self._chosen()
        self._report_credit(chosen)
        return chosen

    def begin(self) -> bool:
        """Prepare the first step; return False where there is nothing to train on. Raises the errors of the source's
        `begin`."""
        return self.runner.run(self.source.begin())

    def train(self, done: Progress | None) -> None:
        """Train from the last whole checkpoint on (`done`, or None for the start), together with the other processes of
        a torchrun; at the end servers no longer have the adapters. A spent budget ends it, with a note in the journal,
        also before the first step. Raises the errors of the source's `rows`.
        """
        from lmprog.optimizers.grpo.torch.stage_callback import StageCallback
        from lmprog.optimizers.grpo.torch.training import train

        task = self.task
        with self.policy.training(self.source.config.lora, task.seed):
            try:
                if done is None:
                    self.runner.run(self.source.before_first_step())
                    self.keeper.count_spending()
                request = TrainRequest(
                    task.program.plan, self.source.config, self.source.imitates, task.seed, task.journal.folder, done
                )
                if processes.count() > 1:
                    processes.from_first(request)
                work = partial(
                    train,
                    self.policy,
                    request,
                    self.rows,
                    callbacks=[StageCallback(self.source.clock, self.end_of_step, self.saved)],
                    health=lambda: self.health,
                    clock=self.source.clock,
                )
                if isinstance(self.source, Pipeline):
                    self.runner.run(self._sampled_beside(self.source, work))
                else:
                    work()
            except BudgetExceeded as error:
                task.journal.note(f"{error}; {self.name} ends with its best so far")
                processes.from_first(None)
            finally:
                self.runner.run(self.policy.close())

    async def _sampled_beside(self, pipeline: Pipeline, work: Callable[[], None]) -> None:
        try:
            await self._beside.work(work)
        finally:
            await pipeline.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of the stage, from the thread of the trainer where there is one."""
        return self._beside.run(coroutine) if self._beside.at_work else self.runner.run(coroutine)

    @processes.others_wait(True)
    def rows(self, step: int) -> list[Row]:
        """Return the training rows of the update that follows `step`, and keep its metrics in `health`; the trainer calls
        this."""
        found = self._run(self.source.rows(step))
        self.health = found.health
        return found.rows

    @processes.others_wait(True)
    def end_of_step(self, step: int, metrics: Mapping[str, float], split: Mapping[str, float]) -> None:
        """Write a step's metrics to the journal; after every `evaluate_every` steps and the last one score the weights, and
        save them where they are the best so far. Called after each update.

        `metrics` are the trainer's, `split` has the seconds of each part of the step.
        """
        config = self.source.config
        self.policy.stepped()
        self.task.journal.record_step(
            "step",
            step,
            of=config.steps,
            seconds=sum(split.values()),
            split=split,
            memory=self.policy.memory(),
            **self.health,
            **metrics,
        )
        if self.policy.served.adapters:
            self.policy.served.warn_on_mismatch(metrics.get("mismatch"))
        if step % config.evaluate_every == 0 or step == config.steps:
            self._run(self.policy.show(step))
            program = self.prompts.scored(step, self.policy.program)
            if self._run(self.keeper.is_best(step, program)):
                self.policy.save(self.keeper.checkpoints.best(step))

    @processes.others_wait(True)
    def saved(self, step: int) -> None:
        """Complete the checkpoint of a step; called when the trainer has written its part of it."""
        self.keeper.commit(step, self.source.state)

    def _chosen(self) -> Candidate:
        """Return the adapters or models of the best step, with the words that they were best with; START where no step is
        better than the start."""
        step = self.keeper.chosen()
        if step is None:
            return START
        folder = self.keeper.checkpoints.best(step).resolve()
        adapters = self.policy.adapters
        full = self.source.config.full
        change = models_in(folder, adapters) if full else change_in(folder, adapters, self.task.program.plan)
        return self.prompts.words(step).then(change)

    def _report_credit(self, chosen: Candidate) -> None:
        config, task = self.source.config, self.task
        lowest = task.program.plan.metrics[task.metric].range[0]
        failed = lowest if config.format_failure is None else config.format_failure
        tuned, params = task.program.with_candidate(chosen), self.source.params()
        run_async(lambda: report_credit(task, tuned, config.credit, params, failed))


def grpo_stage(task: Task, config: Config) -> WeightStage:
    """Return a new run of a `grpo` stage, with the options `config`, for a task. Raises UsageError and LmprogError where its
    weights cannot be trained so."""
    policy = Policy(task.program, task.journal.folder, task.journal.note, config.staleness, full=config.full)
    prompts = OwnPrompts()
    sampler = Sampler(task, config, policy, prompts, Stopwatch())
    source = Pipeline(sampler, policy) if config.staleness else sampler
    return WeightStage("grpo", task, policy, source, prompts)
