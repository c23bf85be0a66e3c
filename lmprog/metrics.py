"""How good a run is: Python functions, judge programs, and arithmetic over other metrics."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler import plan
from lmprog.compiler.python_reference import load
from lmprog.errors import BudgetExceeded, LmprogError, ProviderError, UsageError
from lmprog.program import Program, Result


@dataclass(frozen=True)
class Score:
    """What a metric may return in place of a number: the value, and words for an optimizer that reads them."""

    value: float
    feedback: str | None = None


class MetricFailed(LmprogError):
    """A metric that raised, or that gave something other than a number within its range."""


class Scorer:
    """Scores results by one metric of a program.

    A reply that could not be read gives the lowest value of the metric's `range`; failures that are not the program's own
    (a provider, a tool, a metric with `on_error`) are kept apart by the caller.
    """

    def __init__(self, program: Program, metric: str) -> None:
        metrics = program.plan.metrics
        if metric not in metrics:
            known = ", ".join(metrics) or "none"
            raise UsageError(f"{program.plan.name} has no metric {metric!r} (it has: {known})")
        self.program, self.metric = program, metrics[metric]
        self._functions: dict[str, Callable[..., Any]] = {}
        self._judges: dict[str, Program] = {}

    @property
    def lowest(self) -> float:
        return self.metric.range[0]

    async def score(self, inputs: Mapping[str, Any], row: Mapping[str, Any], result: Result) -> Score:
        """Raises MetricFailed, and ProviderError where an LM judge had no answer."""
        if result.outputs is None:
            return Score(self.lowest, f"the run failed: {result.error}")
        scope = {"inputs": inputs, "row": row, "outputs": result.outputs, "vars": self.program.plan.vars, "metrics": {}}
        return await self._value(self.metric, scope)

    async def _value(self, metric: plan.Metric, scope: dict[str, Any]) -> Score:
        try:
            if metric.value is not None:
                needed = {path[1] for path in metric.value.references if path[0] == "metrics"}
                for id in sorted(needed - set(scope["metrics"])):
                    scope["metrics"][id] = (await self._value(self.program.plan.metrics[id], scope)).value
                score = Score(float(metric.value.evaluate(scope)))
            else:
                arguments = {name: value.evaluate(scope) for name, value in metric.arguments.items()}
                score = await (self._judged if metric.program is not None else self._computed)(metric, arguments)
        except (ProviderError, BudgetExceeded):
            raise
        except Exception as error:
            if metric.on_error is not None:
                return Score(metric.on_error, f"the metric failed: {error}")
            if isinstance(error, MetricFailed):
                raise
            raise MetricFailed(f"the metric {metric.id!r} raised {type(error).__name__}: {error}") from error
        low, high = metric.range
        if not low <= score.value <= high:
            raise MetricFailed(
                f"the metric {metric.id!r} gave {score.value}, outside its range {low} to {high}; "
                "return a value within it, or set `range` on the metric"
            )
        return score

    async def _computed(self, metric: plan.Metric, arguments: dict[str, Any]) -> Score:
        assert metric.python is not None
        if metric.id not in self._functions:
            self._functions[metric.id] = load(metric.python)
        found = self._functions[metric.id](**arguments)
        if inspect.isawaitable(found):
            found = await _awaited(found)
        return found if isinstance(found, Score) else Score(float(found))

    async def _judged(self, metric: plan.Metric, arguments: dict[str, Any]) -> Score:
        assert metric.program is not None
        if metric.id not in self._judges:
            lms = {id: self.program.resources.lm(lm) for id, lm in metric.program.lms.items()}
            self._judges[metric.id] = Program(metric.program, lms, self.program.recompile, self.program.resources)
        result = await self._judges[metric.id].run(arguments)
        if result.outputs is None:
            if result.error is not None and result.error.kind == "provider":
                raise ProviderError(str(result.error))
            raise MetricFailed(f"the judge {metric.id!r} failed: {result.error}")
        numbers = [value for value in result.outputs.values() if isinstance(value, int | float)]
        words = [value for value in result.outputs.values() if isinstance(value, str)]
        return Score(float(numbers[0]), words[0] if words else None)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
