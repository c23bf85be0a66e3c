"""Metrics of a run: Python functions, judge programs, and arithmetic over other metrics."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from lmprog.aio.loops import being_cancelled
from lmprog.aio.threads import OneThread, awaited_whole
from lmprog.blame import connection_failed, is_outage
from lmprog.boundary.python_values import instances_for
from lmprog.boundary.user_code import raised_at
from lmprog.compiler import plan
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.optimizing.metrics import FEEDBACK
from lmprog.compiler.optimizing.trace_types import reads
from lmprog.compiler.types.python_reference import PythonReference, load
from lmprog.errors import ConnectionFailed, Handled, LmprogError, ProviderError, UsageError
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.scoring.trace_scope import runs_of, trace_of
from lmprog.traces.record import Record


@dataclass(frozen=True)
class Score:
    """A score (`value`) that a metric returns where a number is not enough: with `feedback` in words (None: none), which
    optimizers such as gepa read.

    `parts` are rewards by module id, which the reward of a training sets; those that a Python metric returns are dropped.
    """

    value: float
    feedback: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    """Rewards by module, where `optimize.reward` names a metric for each module; else empty."""


class MetricFailed(LmprogError):
    """The error for a metric that raised, that returned something other than a number within its range, or whose judge
    failed by itself."""


class Scorer:
    """Computes one metric of a program, by its id, for the results of the program's runs. A run that failed has no outputs
    to compute it from: `scored` in `scoring/evaluation.py` decides what it scores. Raises UsageError where the program has
    no metric of this id."""

    def __init__(self, program: Program, metric: str) -> None:
        metrics = program.plan.metrics
        if metric not in metrics:
            known = ", ".join(metrics) or "none"
            raise UsageError(f"{program.plan.name} has no metric {metric!r} (it has: {known})")
        self.program, self.metric = program, metrics[metric]
        self._runs: tuple[Sequence[Result], int] | None = None
        self._functions: dict[str, Callable[..., Any]] = {}
        self._instances: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {}
        self._judges: dict[str, Program] = {}
        self._thread = OneThread("lmprog-metric")

    @property
    def lowest(self) -> float:
        """The lower end of the metric's range, which is the score of a run that failed by itself; 0 where the spec
        declares no range."""
        return self.metric.range[0]

    async def score(
        self,
        inputs: Mapping[str, Any],
        row: Mapping[str, Any],
        result: Result,
        *,
        example: int | str = 0,
        options: RunOptions | None = None,
        judged: list[Record] | None = None,
        scores: dict[str, Score] | None = None,
    ) -> Score:
        """Return the metric's score of one result, which must have outputs.

        `inputs` are those of the run, `row` is the whole data row, and `example` its number. Judges draw by `example`
        and by the seed and rollout of `options` (None: seed 0, rollout 0); their calls are added to `judged` (None: not
        kept). `scores` holds the same result's scores by other metrics, by id, and those computed here are added to it
        (None: none are shared). Where the metric fails, but not by an outage, the value of its `on_error` is the score.
        Raises MetricFailed where it fails without `on_error` or is outside of its range; for an outage ProviderError
        where an LM judge had no answer, and ConnectionFailed where the connection of a judge's tool or of a Python
        metric failed; UsageError where the metric compares runs and the scorer is not one of `among`; and unchanged
        what concerns more than one run, such as BudgetExceeded.
        """
        assert result.outputs is not None
        chosen = options or RunOptions()
        draws = RunOptions(seed=chosen.seed, rollout=chosen.rollout, tags=chosen.tags)
        judging = Judging(example, draws, [] if judged is None else judged, {} if scores is None else scores)
        return await self._scored(self._scope(inputs, row, result), judging)

    async def _scored(self, scope: dict[str, Any], judging: Judging) -> Score:
        return await self._value(self.metric, scope, judging)

    def _scope(self, inputs: Mapping[str, Any], row: Mapping[str, Any], result: Result) -> dict[str, Any]:
        plan = self.program.plan
        scope = {"inputs": inputs, "row": row, "outputs": result.outputs, "vars": plan.vars, "metrics": {}}
        if self._reads("trace"):
            scope["trace"] = trace_of(plan, result.records)
        if self.compares:
            if self._runs is None:
                raise UsageError(
                    f"the metric {self.metric.id!r} compares the runs of a row, and only a reward of `optimize` is given them"
                )
            scope["runs"] = runs_of(plan, *self._runs)
        return scope

    def _reads(self, root: str) -> bool:
        return reads(self.program.plan.metrics, self.metric.id, root)

    @cached_property
    def compares(self) -> bool:
        """True where the metric reads `runs`, so that a run's score depends on the other runs of the same row."""
        return self._reads("runs")

    def among(self, results: Sequence[Result], place: int) -> Self:
        """Return a copy of the scorer for the run at `place` (from 0) in `results`, for a metric that compares the runs
        of one row (`runs`).

        `results` are those runs of the row that ended without an outage, in their order.
        """
        found = copy(self)
        found._runs = (results, place)
        return found

    async def _value(self, metric: plan.Metric, scope: dict[str, Any], judging: Judging) -> Score:
        if metric.id not in judging.scores:
            judging.scores[metric.id] = await self._made(metric, scope, judging)
        return judging.scores[metric.id]

    async def _made(self, metric: plan.Metric, scope: dict[str, Any], judging: Judging) -> Score:
        try:
            words = {}
            for id in sorted(metric.metrics):
                part = await self._value(self.program.plan.metrics[id], scope, judging)
                scope["metrics"][id] = part.value
                if part.feedback:
                    words[id] = part.feedback
            by = metric.computed_by
            assert by is not None
            if isinstance(by, Expression):
                score = Score(float(by.evaluate(scope)), _joined(words))
            else:
                arguments = {name: value.evaluate(scope) for name, value in metric.arguments.items()}
                if isinstance(by, PythonReference):
                    score = await self._computed(metric.id, by, arguments)
                else:
                    score = await self._judged(metric.id, by, arguments, judging)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and being_cancelled():
                raise
            if (
                metric.kind != "python"
                and isinstance(error, LmprogError)
                and not isinstance(error, MetricFailed | Handled)
            ):
                raise  # no matter of this metric: a provider without an answer, a spent budget
            said = f"{type(error).__name__}: {error}{raised_at(self._functions.get(metric.id), error)}"
            if connection_failed(error):
                raise ConnectionFailed(f"it raised {said}") from error
            if metric.on_error is not None:
                return Score(metric.on_error, f"the metric failed: {error}")
            if isinstance(error, MetricFailed):
                raise
            raise MetricFailed(f"the metric {metric.id!r} raised {said}") from error
        low, high = metric.range
        if not low <= score.value <= high:
            raise MetricFailed(
                f"the metric {metric.id!r} gave {score.value}, outside its range {low} to {high}; "
                "return a value within it, or set `range` on the metric"
            )
        return score

    async def _computed(self, id: str, reference: PythonReference, arguments: dict[str, Any]) -> Score:
        if id not in self._functions:
            function = load(reference)
            self._instances[id] = instances_for(function)
            self._functions[id] = function
        function = self._functions[id]
        arguments = self._instances[id](arguments)
        if inspect.iscoroutinefunction(function):
            score = await function(**arguments)
        else:
            # One thread for all: a slow function holds up no LM call, and none has to be safe for two threads at once.
            with awaited_whole():
                score = await self._thread.call(function, **arguments)
            if inspect.isawaitable(score):
                score = await score
        return Score(float(score.value), score.feedback) if isinstance(score, Score) else Score(float(score))

    async def _judged(self, id: str, judge: plan.Plan, arguments: dict[str, Any], judging: Judging) -> Score:
        result = await self._judge(id, judge).run(
            arguments, example=judging.example, options=judging.options, parent=f"metrics.{id}"
        )
        judging.records.extend(result.records)
        if result.outputs is None:
            if result.error is not None and is_outage(result.error.kind):
                raise (ProviderError if result.error.kind == "provider" else ConnectionFailed)(str(result.error))
            raise MetricFailed(f"the judge {id!r} failed: {result.error}")
        numbers = [value for value in result.outputs.values() if isinstance(value, int | float)]
        words = result.outputs.get(FEEDBACK)
        return Score(float(numbers[0]), words if isinstance(words, str) and words.strip() else None)

    def _judge(self, id: str, judge: plan.Plan) -> Program:
        """Return the judge as a program, built once.

        An LM of the judge that equals one of the program's is the program's own.
        """
        if id not in self._judges:
            ours = self.program
            lms = ours.resources.inner_lms(judge, ours.plan, ours.lms)
            self._judges[id] = Program(judge, lms, ours.recompile, ours.resources, ours.runner)
        return self._judges[id]


def scorers_of(program: Program, metrics: Iterable[str]) -> list[Scorer]:
    """Return a scorer for each of the metrics (ids; one that comes twice has one scorer), in their order, which all
    call Python metrics in one thread.

    Raises UsageError for a metric that the program does not have.
    """
    found = [Scorer(program, id) for id in dict.fromkeys(metrics)]
    for scorer in found[1:]:
        scorer._thread = found[0]._thread
    return found


@dataclass(frozen=True)
class Judging:
    """The context of the judges of one score: the number of the row (`example`), the options with seed and rollout, and
    the records of the judges' calls, which are added to.

    `scores` are those of the metrics computed so far, by id, so that none is computed twice.
    """

    example: int | str
    options: RunOptions
    records: list[Record]
    scores: dict[str, Score]


def _joined(words: Mapping[str, str]) -> str | None:
    """Return the feedback of the metrics that a score is computed from as one text, of several a line for each with the name
    of its metric; None where `words`, the feedback by metric, is empty."""
    if len(words) < 2:
        return next(iter(words.values()), None)
    return "\n".join(f"{id}: {said}" for id, said in words.items())
