"""Teachers: other programs whose runs join the groups of the program in training. Imports no torch.

A teacher's reply is learnt as the reply to the prompt that the program in training sends for the same inputs. So the prompts
that are trained stay those that are sent, and a bigger LM can teach as well as other words. The reply was not sampled there, so
it is off policy; its old log-probabilities are those of the weights in training, as for every row, and not the teacher's, which
most teachers do not return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lmprog.compiler.bounds import bounds, judges
from lmprog.compiler.plan import Module, Plan
from lmprog.compiler.replies.ending import ending
from lmprog.compiler.replies.reading import CUT, read
from lmprog.compiler.replies.unreadable import Unreadable
from lmprog.compiler.same_lm import same_tokens
from lmprog.compiler.templates.compiled import RenderError
from lmprog.compiler.tokens import reply_limit_of
from lmprog.errors import Handled
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, SkippedRuns, Wave, check_scored, rollouts_of, run_each
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.strategies.teachers import beside
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.seeds import derive
from lmprog.traces.record import Invocation

if TYPE_CHECKING:
    from lmprog.lms.local import LocalLM
    from lmprog.optimizers.optimizer import Row


@dataclass(frozen=True)
class Teacher:
    """A teacher program with its number of rollouts on each example.

    `name` is its path in the spec; `first` is the number of its first rollout, after those of the program and of earlier
    teachers.
    """

    name: str
    program: Program
    rollouts: int
    first: int


def teachers_of(program: Program, config: Config) -> list[Teacher]:
    """Return the teachers that the options name, in that order, with their rollouts numbered after those of the program
    and of the teachers before; empty where there are none. Their specs were compiled with that of `program`."""
    found, first = [], config.rollouts
    for teacher in config.teachers:
        found.append(Teacher(teacher.program, beside(program, teacher.program), teacher.rollouts, first))
        first += teacher.rollouts
    return found


class Unfit(Handled):
    """The error for a teacher's reply that the program in training could not have given."""


class Teachers:
    """The teachers of one stage (perhaps none), and the conversion of their replies to replies of the program in training."""

    def __init__(
        self,
        teachers: Sequence[Teacher],
        program: Program,
        rows: Sequence[Row],
        scorer: Reward,
        lms: Mapping[str, LocalLM],
    ) -> None:
        """Set up the teachers; `program` is the one in training, `rows` are the train rows, `scorer` scores the runs, and
        `lms` are the LMs in training, by the modules that are trained."""
        self.teachers, self.program, self.rows, self.scorer, self.lms = teachers, program, rows, scorer, lms
        self.modules: Collection[str] = lms.keys()
        """The modules that are trained."""
        self._answered: set[str] = set()

    async def join(
        self,
        own: Coroutine[Any, Any, Wave],
        examples: Sequence[int],
        seed: int,
        prompt_program: Callable[[int, int], Program],
        clock: Stopwatch | None = None,
    ) -> Wave:
        """Return the wave of `own` (a coroutine that samples it) with the teachers' rollouts on the same `examples` (indices
        of train rows) added; lost, failed and unfit ones are only counted, in `skipped_runs`. `prompt_program` returns by
        example and rollout number the program whose prompts go with a rollout. `clock` times scoring (None: nothing does);
        draws follow from `seed`.

        Raises what `own` raises, and BudgetExceeded; and until a teacher has had a scored run ProviderError where
        outages end all its runs, MetricFailed where the metric raises in all.
        """
        # What answers in this process waits: else who shares a batch would follow from how fast an API is.
        apart = [teacher for teacher in self.teachers if not self._runs_here(teacher)]
        tasks = [
            asyncio.create_task(run)
            for run in (own, *(self._wave(each, examples, seed, prompt_program, clock) for each in apart))
        ]
        try:
            waves = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        of_apart = dict(zip((teacher.first for teacher in apart), waves[1:], strict=True))
        rollouts, skipped_runs = list(waves[0].rollouts), dict(waves[0].skipped_runs)
        for teacher in self.teachers:
            wave = of_apart.get(teacher.first) or await self._wave(teacher, examples, seed, prompt_program, clock)
            rollouts += wave.rollouts
            for name, runs in wave.skipped_runs.items():
                skipped_runs[name] = runs.plus(skipped_runs.get(name, SkippedRuns()))
        return Wave(tuple(rollouts), waves[0].lost, skipped_runs)

    def _runs_here(self, teacher: Teacher) -> bool:
        """Return whether a model in this process generates for the teacher, or scores its runs."""
        asked = [teacher.program.plan, *judges(self.program.plan)]
        sites = [site for plan in asked for site in bounds(plan).sites]
        return any(site.plan.lms[site.module.lm].runs_here for site in sites)

    async def _wave(
        self,
        teacher: Teacher,
        examples: Sequence[int],
        seed: int,
        prompt_program: Callable[[int, int], Program],
        clock: Stopwatch | None,
    ) -> Wave:
        runs = await run_each(
            teacher.program,
            self.rows,
            examples,
            self.scorer,
            range(teacher.first, teacher.first + teacher.rollouts),
            RunOptions(seed=derive(seed, "teacher", teacher.name)),
            clock=clock,
        )
        if teacher.name not in self._answered:
            check_scored(runs, f"rollouts of the teacher {teacher.name}")
        kept = rollouts_of(runs, self.scorer.lowest)
        if kept:
            self._answered.add(teacher.name)
        rollouts, unfit = [], 0
        for rollout in kept:
            try:
                if rollout.failure is None:
                    rollouts.append(self._joining(rollout, teacher, prompt_program(rollout.example, rollout.rollout)))
            except Unfit:
                unfit += 1
        failed = sum(rollout.failure is not None for rollout in kept)
        return Wave(tuple(rollouts), 0, {teacher.name: SkippedRuns(len(runs) - len(kept), failed, unfit)})

    def _joining(self, rollout: Rollout, teacher: Teacher, prompt_program: Program) -> Rollout:
        """Return the rollout as if the program in training had given its replies. Raises Unfit."""
        made = [
            self.taught(invocation, teacher.program.plan, prompt_program)
            for invocation in rollout.invocations
            if invocation.module in self.modules and invocation.parent is None and invocation.outputs is not None
        ]
        return replace(rollout, invocations=tuple(made), teacher=teacher.name)

    def taught(self, made: Invocation, teacher: Plan, prompt_program: Program) -> Invocation:
        """Return a call of a teacher's module as a call of the same module of `prompt_program`; `teacher` is the
        teacher's plan.

        It has the prompt of `prompt_program`, and the reply in tokens of the model in training, without
        log-probabilities. The reply is unchanged where the module reads the same outputs in it without repairs, and so
        are its token ids where it was sampled from the same model; else, and where there is no reply (`text` is None),
        the outputs are written as in a demo of the module.

        Raises Unfit for a reply that the program in training could not give: one that is longer than `max_tokens`, that
        goes on after an end token, that is read as other outputs, or that the grammar of a constrained module does not
        allow; and for inputs or outputs that the module's prompt cannot show. `made` is the record of the call.
        """
        plan, module, lm = prompt_program.plan, prompt_program.plan.modules[made.module], self.lms[made.module]
        ready, declared = prompt_program.resources.module(module, plan), plan.lms[module.lm]
        assert made.outputs is not None
        try:
            prompt = ready.builder.build(made.inputs)
            written = ready.builder.reply({**made.inputs, **made.outputs})
        except RenderError as error:
            raise Unfit(str(error)) from error
        cut = ending(made.finish_reason) == "cut"
        as_it_came = made.text is not None and reads_as(module, made.text, made.outputs, cut, lenient=False)
        same = same_tokens(teacher.lms[teacher.modules[made.module].lm], declared)
        if as_it_came and same and made.token_ids:
            ids = tuple(made.token_ids)
        elif as_it_came and made.text is not None:
            ids = lm.reply_ids(made.text, ended=not cut)
        else:
            ids = lm.reply_ids(written)
        text = lm.text(ids)
        if not reads_as(module, text, made.outputs, cut and as_it_came):
            raise Unfit("it is not read as the same outputs")
        # A server has no such limit of its own.
        most = reply_limit_of(declared)
        if most is not None and len(ids) > most:
            raise Unfit(f"its {len(ids)} tokens are more than max_tokens")
        if lm.weights.end_ids & set(ids[:-1]):
            raise Unfit("it goes on after its end")
        constrained = module.decoding == "constrained"
        if constrained and not lm.may_say(module.format, ready.output_type, ids):
            raise Unfit("a constrained module may not say it")
        sent = lm.prompt(prompt.messages, prompt.constant).ids
        return replace(
            made,
            text=text,
            messages=prompt.messages,
            prompt_token_ids=sent,
            token_ids=ids,
            logprobs=None,  # those of the teacher, and for its own prompt
            constrained=constrained,
        )


def reads_as(module: Module, text: str, outputs: Mapping[str, Any], cut: bool, lenient: bool = True) -> bool:
    """Return whether the module reads exactly these outputs in the reply `text`; `cut` says that it reached its limit of
    tokens.

    With `lenient`, a reply that needs repairs counts too; else only one whose sole fault is that it was cut.
    """
    try:
        reading = read(module.format, module.outputs, text, cut)
    except Unreadable:
        return False
    return reading.values == outputs and (lenient or set(reading.forgiven) <= {CUT})
