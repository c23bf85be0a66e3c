"""The `grpo` stage: the loop of waves and updates, and which adapters come out of it."""

from __future__ import annotations

import asyncio
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lmprog.aio.loops import run_async
from lmprog.compiler.plan import AdapterReference
from lmprog.errors import BudgetExceeded
from lmprog.optimizers import processes
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.grpo.advantages import update_averages
from lmprog.optimizers.grpo.checkpoints import Checkpoints, Progress, by_row
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.credit import report_credit
from lmprog.optimizers.grpo.math.comparisons import compare, seen
from lmprog.optimizers.grpo.math.health import health
from lmprog.optimizers.grpo.math.overlong import divisor, is_cut, longest, penalised, warn_of_cuts
from lmprog.optimizers.grpo.math.training_rows import Constraint, Held, Row, training_rows
from lmprog.optimizers.grpo.reports import check
from lmprog.optimizers.grpo.sampling.adapters import Adapter, adapters_of, change_in, in_training
from lmprog.optimizers.grpo.sampling.probe import probe
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Wave, collect, examples_at, of_examples
from lmprog.optimizers.grpo.sampling.served import Served
from lmprog.optimizers.grpo.sampling.teachers import Teachers, teachers_of
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.train_request import TrainRequest
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.strategies import outages
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import Scores, aevaluate
from lmprog.seeds import derive


class WeightStage:
    """A run of the `grpo` stage."""

    name = "grpo"
    imitates = False
    """True if the loss of a row is the negative log-likelihood of its reply, and not that of a policy gradient."""

    def __init__(self, task: Task, config: Config) -> None:
        self.task, self.config = task, config
        self.program = task.program
        self.adapters = adapters_of(task.program.plan)
        self.modules = frozenset(id for adapter in self.adapters for id in adapter.tuned)
        self.agents = frozenset(id for id in self.modules if task.program.plan.modules[id].tools)
        self.scorer = Reward(task.program, task.metric, self.modules, config)
        self.served = Served(task.program, self.adapters, task.journal.folder / "served", task.journal.note)
        self.lms = {adapter: self.served.trained_lm(adapter) for adapter in self.adapters}
        self.weights = {adapter: lm.weights for adapter, lm in self.lms.items()}
        self.trained: dict[Adapter, AdapterReference] = {}
        self.answering: dict[Adapter, AdapterReference] = {}
        self.place_of = {id: place for place, adapter in enumerate(self.adapters) for id in adapter.tuned}
        self.lm_of = {id: self.lms[adapter] for adapter in self.adapters for id in adapter.tuned}
        self.teachers = Teachers(teachers_of(task.program, config), task.program, task.train, self.scorer, self.lm_of)
        self.checkpoints = Checkpoints(task.journal.folder)
        self.best: tuple[int, Scores] | None = None
        self.before: Scores | None = None
        self.spent_before = task.budget.spent
        self.averages: dict[str, float] = {}
        self.levels: dict[str, list[float]] = {}
        self.taken = 0
        self.wave: dict[str, Any] = {}
        self.clock = Stopwatch()
        self.runner = asyncio.Runner()
        check(config.report_to)

    def run(self) -> Candidate:
        """Return the adapters that were best on dev together, or no change where none is better than the start."""
        # One event loop for the whole stage: it cancels what still runs when Ctrl-C ends the run.
        with self.runner:
            self.before = Scores.of_values(
                self.task.metric, self.runner.run(self.task.journal.once("before", self._before))
            )
            self._tell_dev(0, self.before)
            if self.task.journal.recall("probe") is not None:
                self._probe()
            begun = self.begin()
            self.spent_before = self.task.budget.spent
            done = self.checkpoints.last()
            if done is not None:
                self._go_on(done)
            if begun and (done is None or done.step < self.config.steps):
                self.train(done)
        chosen = self._chosen()
        tuned = self.task.program.with_candidate(chosen)
        lowest = self.task.program.plan.metrics[self.task.metric].range[0]
        failed = lowest if self.config.format_failure is None else self.config.format_failure
        run_async(lambda: report_credit(self.task, tuned, self.config.credit, self.sampling, failed))
        return chosen

    def begin(self) -> bool:
        """Get what the first step needs; False where there is nothing to train on."""
        return True

    def _probe(self) -> None:
        """Take the temperature from what a few train rows say of what can be learnt.

        The weights that are to be trained answer, so that a server which does not take them is found out before it is asked.
        """
        task = replace(self.task, program=self.program)
        found = self.runner.run(probe(task, self.config, self.scorer, self._sampling, self.format_failure))
        if found is not None:
            self.config = self.config.model_copy(update={"temperature": found["temperature"]})
            self.levels = {name: [*values] for name, values in found["levels"].items()}

    @property
    def sampling(self) -> dict[str, dict[str, Any]]:
        """The params of the trained modules in rollouts."""
        return self._sampling(self.temperature_of)

    def _sampling(self, temperature_of: Callable[[str], float]) -> dict[str, dict[str, Any]]:
        """Return the params of rollouts: the loss is that of the whole distribution, so nothing of it may be cut off."""
        here = {"top_p": 1.0, "top_k": 0}
        return {
            id: {
                "temperature": temperature_of(id),
                **(self.served.untruncated(id) if id in self.served.modules else here),
            }
            for id in self.modules
        }

    def temperature_of(self, module: str) -> float:
        """Return the temperature at which rollouts sample a module."""
        return self.config.temperature_of(module)

    @property
    def format_failure(self) -> float:
        """The reward of a run that failed by itself, as with a reply that cannot be read."""
        return self.scorer.lowest if self.config.format_failure is None else self.config.format_failure

    async def _before(self) -> Any:
        return by_row((await self._ascore(0)).checked())

    def _go_on(self, done: Progress) -> None:
        self.taken, self.averages = done.taken, dict(done.averages)
        self.levels = {name: [*values] for name, values in done.levels.items()}
        if done.best is not None:
            self.best = (done.best[0], Scores.of_values(self.task.metric, done.best[1]))
        self.task.budget.charge(done.spent, done.largest)
        self.task.journal.tell("note", text=f"{self.name} goes on after step {done.step}")

    def train(self, done: Progress | None) -> None:
        """Train from the last whole step on, together with all other processes of this optimization."""
        import peft

        from lmprog.lms.local.thread_count import alone
        from lmprog.optimizers.grpo.torch.stage_callback import StageCallback
        from lmprog.optimizers.grpo.torch.trained import TrainedAdapters
        from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer, Stopped

        lora = peft.LoraConfig(
            r=self.config.lora.rank,
            lora_alpha=self.config.lora.alpha,
            target_modules=self.config.lora.targets,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        import torch

        torch.manual_seed(derive(self.task.seed, "adapter") % 2**32)
        try:
            for adapter, weights in self.weights.items():
                self.trained[adapter] = weights.begin_training(lora, start=adapter.start)
            self.answering, self.program = dict(self.trained), in_training(self.task.program, self.trained)
            if processes.first():
                if self.config.probe and done is None and self.task.journal.recall("probe") is None:
                    self.show(0)
                    self._probe()
                    self.spent_before = self.task.budget.spent
                if processes.count() > 1:
                    task = self.task
                    request = TrainRequest(
                        task.program.plan, self.config, self.imitates, task.metric, task.seed, task.journal.folder, done
                    )
                    processes.from_first(request)
            trainer = ProgramTrainer(
                TrainedAdapters([self.weights[adapter].in_peft(name) for adapter, name in self.trained.items()]),
                self.weights[self.adapters[0]].tokenizer,
                self.config,
                self.rows,
                self.checkpoints.trainer,
                derive(self.task.seed, "trainer") % 2**32,
                [StageCallback(self.clock, self.end_of_step, self.saved)] if processes.first() else [],
                imitates=self.imitates,
                reply_limit=max(divisor(self.task.program.plan, each.lm, self.config.loss) for each in self.adapters),
                allowed=self._allowed,
                health=lambda: self.wave,
                clock=self.clock,
            )
            with alone(), warnings.catch_warnings():
                # Names that transformers renames; TRL still uses the old.
                warnings.simplefilter("ignore", FutureWarning)
                trainer.train(str(self.checkpoints.of_trainer(done.step)) if done is not None else None)
        except BudgetExceeded as error:
            self.task.journal.note(f"{error}; {self.name} ends with its best so far")
            processes.from_first(None)
        except Stopped:
            pass
        finally:
            if self.served.adapters and processes.first():
                self.runner.run(self.served.close())
            self.program = self.task.program
            for weights in self.weights.values():
                weights.end_training()

    def rows(self, step: int) -> list[Row]:
        """Return the training rows of a step: rollouts, groups, advantages; rows without signal are dropped."""
        with self.clock.part("rollout"):
            self.show(step)
            waves = self._waves(step)
        every = [rollout for wave in waves for rollout in wave.rollouts]
        wave = of_examples(waves, self.config.examples, self.scorer.width)
        fit, unmatched = self.served.drop_untrainable(wave.rollouts, self.lm_of)
        self.levels = seen(self.levels, every, self.scorer.width)
        groups, values = compare(
            [replace(rollout, invocations=self._of_trained(rollout.invocations)) for rollout in fit],
            self.config,
            sampled=wave.rollouts,
            averages=self.averages,
            levels=self.levels,
            agents=self.agents,
            width=self.scorer.width,
        )
        self.averages = update_averages(self.averages, groups)
        rows = training_rows(
            groups,
            values,
            self._constraint,
            self.place_of.__getitem__,
            lambda made: made.logprobs,
            agents=self.agents,
            is_skipped=is_cut if self.config.overlong == "mask" else lambda made: False,
            silent=self.config.beta > 0 or self.config.normalise == "all",
        )
        self.wave = health(waves, groups, values, rows, self.scorer.width) | {"taken": self.taken}
        own = [rollout for rollout in every if rollout.teacher is None]
        self.wave["cut"] = warn_of_cuts(own, self.modules, self.program.plan, self.task.journal.note)
        if self.served.adapters:
            self.wave["unmatched"] = unmatched
        return rows

    def show(self, step: int) -> None:
        """Make the program use the weights after `step`, also where servers sample it."""
        if not self.served.adapters:
            return
        shown = {**self.trained, **self.runner.run(self.served.show(step, self._write))}
        if shown != self.answering:
            self.answering, self.program = shown, in_training(self.task.program, shown)

    def _waves(self, step: int) -> list[Wave]:
        """Return the wave of a step; with `resample` also further ones.

        There are further ones until enough examples have a signal or the cap is reached.
        """
        waves: list[Wave] = []
        drawn: set[int] = set()
        most = self.config.resample_waves if self.config.no_signal == "resample" else 1
        while len(waves) < most and len(drawn) < len(self.task.train):
            examples = examples_at(self.taken, self.config.examples, len(self.task.train), self.task.seed)
            self.taken += len(examples)
            # An example stands in a step once, also where an epoch ends within it: its seeds would repeat its rollouts.
            fresh = [example for example in dict.fromkeys(examples) if example not in drawn]
            drawn.update(fresh)
            waves.append(self.runner.run(self._wave(step, fresh)))
            if sum(len(wave.by_signal(self.scorer.width)[0]) for wave in waves) >= self.config.examples:
                break
        return waves

    async def _wave(self, step: int, examples: list[int]) -> Wave:
        seed = derive(self.task.seed, "wave", step)
        own = self._own(step, examples, seed)
        return await self.teachers.join(own, examples, seed, partial(self.prompt_program, step), self.clock)

    async def _own(self, step: int, examples: list[int], seed: int) -> Wave:
        """Return the runs of the program in training."""
        wave = await collect(
            self.sampled_program(step),
            self.task.train,
            examples,
            self.scorer,
            rollouts=self.config.rollouts,
            params=self.sampling,
            format_failure=self.format_failure,
            seed=seed,
            clock=self.clock,
        )
        rollouts = self.scorer.with_failures(wave.rollouts)
        if self.config.overlong == "penalty":
            rollouts = penalised(rollouts, self.modules, partial(longest, self.task.program.plan), self.scorer.width)
        return replace(wave, rollouts=tuple(rollouts))

    def sampled_program(self, step: int) -> Program:
        """Return the program that runs in the wave after `step`."""
        return self.program

    def prompt_program(self, step: int, example: int, rollout: int) -> Program:
        """Return the program whose prompts are trained by a run in the wave after `step`.

        `rollout` is the number of the run on the example.
        """
        return self.sampled_program(step)

    def scored_program(self, step: int) -> Program:
        """Return the program that is scored on dev after `step`."""
        return self.program

    def _constraint(self, made: Held) -> Constraint | None:
        """Return the constraint under which the reply was sampled; None where there was none."""
        if not made.constrained:
            return None
        module = self.program.plan.modules[made.module]
        return module.format, self.program.resources.module(module, self.program.plan).output_type

    def _allowed(self, row: Row) -> Any:
        """Return the masks under which a constrained reply was sampled."""
        assert row.constraint is not None
        return self.lms[self.adapters[row.adapter]].allowed(*row.constraint, row.reply_ids)

    def _of_trained(self, invocations: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the invocations of the tuned modules. A sub-program's module of the same name is another module."""
        return tuple(
            made for made in invocations if made.module in self.modules and made.parent is None and made.token_ids
        )

    def end_of_step(self, step: int, metrics: Mapping[str, float], split: Mapping[str, float]) -> None:
        """Write the step's health to the journal, and score the weights when it is time; called after each update.

        `split` holds the seconds of each part of the step.
        """
        for weights in set(self.weights.values()):
            weights.trained_step()
        self.task.journal.record_step(
            "step", step, of=self.config.steps, seconds=sum(split.values()), split=split, **self.wave, **metrics
        )
        if self.served.adapters:
            self.served.warn_on_mismatch(metrics.get("mismatch"))
        if step % self.config.evaluate_every == 0 or step == self.config.steps:
            self.show(step)
            scores = self.runner.run(self._ascore(step))
            self._tell_dev(step, scores)
            if not self._usable(scores):
                whose = f"step {step}"
                self.task.journal.note(outages.complaint(whose, len(scores.by_row), len(self.task.dev)))
            elif self.best is None or scores.mean > self.best[1].mean:
                self.best = (step, scores)
                self._save(self.checkpoints.best(step))

    def _save(self, folder: Path) -> None:
        """Write the adapters, all of one step, each in a folder of its name."""
        shutil.rmtree(folder, ignore_errors=True)
        for adapter in self.adapters:
            self._write(adapter, folder / adapter.name)

    def _write(self, adapter: Adapter, folder: Path) -> None:
        self.weights[adapter].save_trained(self.trained[adapter], folder)

    def saved(self, step: int) -> None:
        """Commit the checkpoint; called when the trainer has written its part of it."""
        best = None if self.best is None else (self.best[0], by_row(self.best[1]))
        spent = self.task.budget.spent.since(self.spent_before)
        self.checkpoints.commit(
            Progress(step, self.taken, self.averages, best, spent, self.task.budget.largest, self.levels)
        )

    async def _ascore(self, step: int) -> Scores:
        options, repeats = RunOptions(seed=self.task.seed), self.config.repeats
        program = self.scored_program(step)
        return await aevaluate(program, self.task.dev, self.task.metric, repeats=repeats, options=options)

    def _usable(self, scores: Scores) -> bool:
        """Return whether few enough rows are outages for a choice."""
        return not outages.too_many(len(scores.by_row), len(self.task.dev))

    def _tell_dev(self, step: int, scores: Scores) -> None:
        self.task.tell_spending()
        self.task.journal.record_step("dev", step, score=scores.estimate.as_json())

    def _chosen(self) -> Candidate:
        if self.best is None or self.before is None:
            return Candidate()
        if not self._usable(self.before):
            lost = outages.complaint("the program before", len(self.before.by_row), len(self.task.dev))
            self.task.journal.note(lost)
            return Candidate()
        step, scores = self.best
        difference = scores.against(self.before)
        verdict = "chosen" if difference.mean > 0 else "no better"
        what = f"step {step} against before, on the rows that choose"
        self.task.journal.record("compared", what=what, difference=difference.as_json(), verdict=verdict)
        if difference.mean <= 0:
            return Candidate()
        return change_in(self.checkpoints.best(step).resolve(), self.adapters, self.task.program.plan)
