"""Sources of demos (labelled rows, good runs), and the drawing of a set of demos."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lmprog.compiler.plan import Module, ModuleCall, Plan
from lmprog.compiler.prompts.call_turns import CALLS
from lmprog.compiler.rows.feedback import GOOD, has_feedback, is_accepted
from lmprog.compiler.yaml.writer import unwritable
from lmprog.optimizers.candidate import Demo
from lmprog.optimizers.grpo.sampling.rollouts import check_scored, run_each
from lmprog.optimizers.optimizer import Row, Task
from lmprog.optimizers.strategies.best_runs import AtLeast, best_runs
from lmprog.optimizers.strategies.demo_runs import DemoRuns
from lmprog.optimizers.strategies.teachers import beside
from lmprog.runtime.options import RunOptions
from lmprog.scoring.evaluation import RowScore, aevaluate
from lmprog.scoring.metrics import Scorer
from lmprog.seeds import derive
from lmprog.traces.record import Record, ToolInvocation

Pool = Sequence[Demo]


class DemoSource(Protocol):
    """The interface of a source of demos, with values for all inputs and outputs of a module."""

    async def demos(self, task: Task) -> Mapping[str, Pool]:
        """Return the demos found for each module; a module without any may be missing."""


class Labelled:
    """The source of demos that stand in the train rows themselves: rows with a value for every input and output of a module.

    A module gets an empty pool unless its only call takes the program's inputs as they are.
    """

    async def demos(self, task: Task) -> Mapping[str, Pool]:
        plan = task.program.plan
        return {module.id: labelled(plan, module, task.train) for module in plan.modules.values()}


class Solved:
    """The source of demos from runs on up to `rows` train rows that scored well: each call of a module in them is a demo.

    The runs are made by the program and by teachers, as the options `runs` say (None: one run of the program a row).
    Calls in loops count too, and equal ones count once. The demos are kept in the journal. Raises ProviderError where
    outages ended all runs of the program or of a teacher, MetricFailed where the metric raised in all, and
    BudgetExceeded.
    """

    def __init__(self, rows: int, runs: DemoRuns | None = None) -> None:
        self.rows, self.runs = rows, runs or DemoRuns.model_validate({})

    async def demos(self, task: Task) -> Mapping[str, Pool]:
        draw = random.Random(derive(task.seed, "bootstrap"))
        rows = draw.sample(list(task.train), min(self.rows, len(task.train)))

        async def work() -> dict[str, list[Demo]]:
            scorer = Scorer(task.program, task.metric)
            own = await self._own(task, rows)
            every = [*own, *await self._of_teachers(task, rows, scorer)]
            best = scorer.metric.range[1] if self.runs.at_least is None else self.runs.at_least
            modules = task.program.plan.modules.values()
            return {module.id: bootstrapped(module, every, best, scorer.lowest) for module in modules}

        kept: Mapping[str, Pool] = await task.journal.once("bootstrap", work)
        return kept

    async def _own(self, task: Task, rows: Sequence[Row]) -> Sequence[RowScore]:
        options, tuned = RunOptions(seed=task.seed), task.program.plan.optimize
        if self.runs.samples > 1 and tuned is not None:
            params = {
                id: {"temperature": self.runs.temperature} for id, parts in tuned.tune.items() if "demos" in parts
            }
            options = replace(options, module_params=params)
        scores = await aevaluate(task.program, rows, task.metric, repeats=self.runs.samples, options=options)
        check_scored(scores.checked().rows, "runs on train rows")  # before the absence of demos is recorded for good
        return scores.rows

    async def _of_teachers(self, task: Task, rows: Sequence[Row], scorer: Scorer) -> list[RowScore]:
        found: list[RowScore] = []
        for teacher in self.runs.teachers:
            options = RunOptions(seed=derive(task.seed, "teacher", teacher.program))
            program = beside(task.program, teacher.program)
            runs = await run_each(program, rows, range(len(rows)), scorer, range(teacher.rollouts), options)
            check_scored(runs, f"runs of the teacher {teacher.program}")
            found += runs
        return found


def labelled(plan: Plan, module: Module, rows: Sequence[Row], accepted: float = GOOD) -> list[Demo]:
    """Return the demos in the data itself: of each of `rows` (train rows) that has a value (not null) for every input
    and output of the module, these values, where a YAML file can hold them; where the train split is recorded use
    with feedback, only of rows whose outputs were corrected, or scored `accepted` (0 to 1) or more.

    The list is empty unless exactly one step outside of loops calls the module, and each argument is the program's
    input of the same name (`inputs.NAME`), so that a row's values are the module's."""
    calls = [
        step.action for step in plan.steps if isinstance(step.action, ModuleCall) and step.action.module == module.id
    ]
    direct = len(calls) == 1 and all(
        value.text.strip() == f"inputs.{name}" for name, value in calls[0].arguments.items()
    )
    if not direct:
        return []
    wanted = [*module.inputs, *module.outputs]
    of_use = plan.optimize is not None and has_feedback(plan, plan.optimize.train)
    rows = [row for row in rows if is_accepted(row, accepted)] if of_use else rows
    whole = [row for row in rows if all(row.get(name) is not None for name in wanted)]
    return writable([{name: row[name] for name in wanted} for row in whole])


def bootstrapped(module: Module, runs: Sequence[RowScore], at_least: AtLeast, lowest: float) -> list[Demo]:
    """Return the calls of a module in well-scored runs as demos, equal ones once; a run that failed gives none, and
    ones that no YAML file can hold are left out.

    `runs` are runs of several rows. `at_least` is the score that a run needs (`best`: the highest of its row, above `lowest`,
    the metric's lowest value).
    """
    by_row: dict[int, list[RowScore]] = {}
    for run in runs:
        if run.value is not None and run.kind is None:
            by_row.setdefault(run.row, []).append(run)
    found: dict[str, Demo] = {}
    for of_row in by_row.values():
        for place in best_runs([run.value or 0.0 for run in of_row], at_least, lowest):
            for demo in _of_run(module, of_row[place].result.records):
                found.setdefault(repr(demo), demo)
    return writable(list(found.values()))


def _of_run(module: Module, records: Sequence[Record]) -> Iterator[Demo]:
    """Yield the calls of a module in a run as demos, those of an agent with its tool calls.

    A call that was tried again gives none. Each turn of an agent stands before the tool calls that it asked for.
    """
    turns: dict[str, list[list[dict[str, Any]]]] = {}
    for record in records:
        if record.module != module.id or record.parent is not None:
            continue
        before = turns.setdefault(record.path, [])
        if isinstance(record, ToolInvocation):
            if before:
                before[-1].append(_tool_call(record))
        elif record.outputs is not None:
            if not record.attempt:
                calls = [turn[0] if len(turn) == 1 else turn for turn in before if turn]
                yield {**record.inputs, **({CALLS: calls} if calls else {}), **record.outputs}
            del turns[record.path]
        elif record.error is None:
            before.append([])


def _tool_call(record: ToolInvocation) -> dict[str, Any]:
    said = {"result": record.result} if record.error is None else {"error": record.error}
    return {"tool": record.tool, "arguments": dict(record.arguments), **said}


def writable(demos: Sequence[Demo]) -> list[Demo]:
    """Return the demos without those that no YAML file can hold, such as ones with half a surrogate pair."""
    return [demo for demo in demos if unwritable(demo) is None]


def draw_set(module: Module, pool: Pool, count: int, seed: int) -> tuple[Demo, ...]:
    """Draw `count` demos from the pool by the seed, in random order, spread evenly over the values of the module's last
    output; the whole pool, in random order too, where it has no more.

    An output that hardly repeats (free text) has no values to spread over: the draw is then uniform.
    """
    draw = random.Random(seed)
    shuffled = draw.sample(list(pool), len(pool))
    answer = list(module.outputs)[-1]
    by_value: dict[str, list[Demo]] = {}
    for demo in shuffled:
        by_value.setdefault(repr(demo.get(answer)), []).append(demo)
    chosen: list[Demo] = []
    while len(chosen) < min(count, len(pool)):
        for value in draw.sample(sorted(by_value), len(by_value)):
            if by_value[value] and len(chosen) < count:
                chosen.append(by_value[value].pop())
    draw.shuffle(chosen)
    return tuple(chosen)
