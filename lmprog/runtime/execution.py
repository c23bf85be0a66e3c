"""Execution of a run: steps start once inputs are ready, every LM call is recorded, the first failure ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from lmprog.blame import Kind, is_own
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.compiler.plan import ModuleCall, Plan, ProgramCall, Repeat, Step, ToolCall, Value
from lmprog.compiler.types.lattice import MAX_DEPTH, deeper
from lmprog.failure import CANCELLED, Failure, Recovered, StepFailed
from lmprog.lms.lm import LM
from lmprog.runtime.client_tools import ClientCalled
from lmprog.runtime.module_call import call_module
from lmprog.runtime.options import RunOptions
from lmprog.runtime.resources import Resources
from lmprog.runtime.run import Run, Site
from lmprog.runtime.tool_call import call_tool
from lmprog.tools.tool import ToolFailed
from lmprog.traces.record import Invocation

Scope = dict[str, Any]


class Execution:
    """A single run of a plan. After `execute`, `run.records()` returns the records of its LM and tool calls.

    `lms` are the LMs by id, `resources` the prepared modules and tools, `example` is the number of the row or the id of a
    request, and `parent` the path of the step or metric that runs this plan as a sub-program or judge (None: neither).
    """

    def __init__(
        self,
        plan: Plan,
        lms: Mapping[str, LM],
        resources: Resources,
        options: RunOptions,
        example: int | str,
        parent: str | None = None,
    ) -> None:
        self.plan, self.options = plan, options
        self.run = Run(plan, lms, resources, options, example, parent)

    async def execute(
        self, inputs: Mapping[str, Any], attempt: int = 0
    ) -> tuple[Mapping[str, Any] | None, Failure | None]:
        """Run the plan on `inputs`; return its outputs by name and None, or None and the failure that ended the run. Both are
        None where it ended with `run.client_calls`.

        `inputs` must fit the plan, which is not checked here; defaults stand for those that are absent. Errors that concern
        more than this run, such as a spent budget, are raised. `attempt` counts the tries, from 0, of the step that calls the
        plan as a sub-program.
        """
        defaults = {name: declared.default for name, declared in self.plan.inputs.items()}
        scope: Scope = {"inputs": {**defaults, **inputs}, "vars": self.plan.vars, "steps": {}}
        try:
            await self._level(self.plan.steps, scope, Site(attempt=attempt))
            outputs = {name: value.evaluate(scope) for name, value in self.plan.outputs.items()}
        except StepFailed as failed:
            return None, failed.failure
        except ClientCalled as ended:
            self.run.client_calls = ended.made
            return None, None
        except EvaluationError as error:
            return None, Failure("expression", str(error), "outputs")
        deep = next((name for name, value in outputs.items() if deeper(value)), None)
        if deep is not None:
            return None, Failure("expression", f"the output {deep!r} is nested deeper than {MAX_DEPTH}", "outputs")
        return outputs, None

    async def _level(self, steps: tuple[Step, ...], scope: Scope, site: Site) -> None:
        """Run the steps of the program or of a loop, and put their outputs into `scope["steps"]`; each starts when those have
        ended that it reads or `needs`.

        Where a step fails, the others are cancelled. Raises the failure that comes first in the order of the plan.
        """
        if all(previous.id in step.after for previous, step in pairwise(steps)):
            for index, step in enumerate(steps):
                scope["steps"][step.id] = await self._step(step, scope, site.step(index, step.id))
            return
        done = {step.id: asyncio.Event() for step in steps}

        async def follow(index: int, step: Step) -> None:
            for needed in step.after:
                await done[needed].wait()
            scope["steps"][step.id] = await self._step(step, scope, site.step(index, step.id))
            done[step.id].set()

        tasks = [asyncio.create_task(follow(index, step)) for index, step in enumerate(steps)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # In the order of the plan, so that which of two failures is reported does not depend on the clock.
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def _step(self, step: Step, scope: Scope, site: Site) -> Any:
        """Run one step and return its outputs by name: those of `otherwise` (None for each that it lacks) where its `when`
        is false, and those of `on_error` where it fails. Raises StepFailed where it fails without `on_error`, and where that
        cannot be computed."""
        try:
            try:
                if step.when is not None and not step.when.evaluate(scope):
                    skipped = dict.fromkeys(step.outputs)
                    return skipped | {name: value.evaluate(scope) for name, value in step.otherwise.items()}
                if step.foreach is None:
                    return await self._attempts(step, scope, site)
                return await self._foreach(step, scope, site)
            except EvaluationError as error:
                raise StepFailed("expression", str(error), site.path) from error
        except StepFailed as failed:
            if step.on_error is None:
                raise
            try:
                outputs = {name: value.evaluate(scope) for name, value in step.on_error.items()}
            except EvaluationError as error:
                raise StepFailed("expression", str(error), site.path) from error
            # Only now: an `on_error` that cannot be computed has answered nothing.
            self.run.answered.append((site.place, Recovered(self.run.full_path(site.path), failed.failure)))
            return outputs

    async def _attempts(self, step: Step, scope: Scope, site: Site) -> Any:
        """Run the action of a step, each time with the step's time limit, and again after a failure as often as its `retry`
        allows; return the outputs.

        A step that has called a tool that writes is not repeated. Raises StepFailed for the last failure.
        """
        tries = 1 + step.retry
        if tries == 1 and step.timeout is None:
            return await self._action(step, scope, site)
        for attempt in range(tries):
            limit, before = asyncio.timeout(step.timeout), len(self.run.calls)
            try:
                async with limit:
                    return await self._action(step, scope, replace(site, attempt=site.attempt * tries + attempt))
            except TimeoutError as error:
                if not limit.expired():
                    raise
                if attempt + 1 == tries or self._wrote(site, before):
                    kind: Kind = "provider" if self._awaits_reply(site, before) else "timeout"
                    raise StepFailed(kind, f"no end after {step.timeout} seconds", site.path) from error
            except StepFailed as error:
                final = error.failure.kind == "unreadable" and not self.options.retry
                if final or attempt + 1 == tries or self._wrote(site, before):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _awaits_reply(self, site: Site, first: int) -> bool:
        """Return whether the calls that the step's time limit has cut short are calls of LMs alone, and there are any.

        `first` is the place in `run.calls` from which on the calls of this try stand.
        """
        cut = [
            kind
            for place, kind, fields in self.run.calls[first:]
            if place[: len(site.place)] == site.place and fields.get("error") == CANCELLED
        ]
        return bool(cut) and all(kind is Invocation for kind in cut)

    def _wrote(self, site: Site, before: int) -> bool:
        """Return whether the step has called a tool that writes in its last try, whose calls begin at the place `before` in
        `run.calls`; such a step is not repeated."""
        calls = self.run.calls[before:]
        return any(fields.get("wrote") and place[: len(site.place)] == site.place for place, _, fields in calls)

    async def _foreach(self, step: Step, scope: Scope, site: Site) -> Any:
        """Run a step with `foreach` once for each item, at most `max_parallel` at a time; return its outputs by name, each as a
        list in the order of the items (empty for no items, and for null). Where an item fails, the others are cancelled.

        Raises StepFailed for more than `at_most` items, and for the first item, in their order, that fails.
        """
        assert step.foreach is not None
        items = list(step.foreach.items.evaluate(scope) or ())
        if step.foreach.at_most is not None and len(items) > step.foreach.at_most:
            message = f"{len(items)} items, more than at_most: {step.foreach.at_most}"
            raise StepFailed("limit", message, site.path)
        gate = asyncio.Semaphore(step.foreach.max_parallel or max(1, len(items)))

        async def one(index: int, item: Any) -> Any:
            async with gate:
                loop = {"index0": index, "first": index == 0, "last": index == len(items) - 1}
                inner = {**scope, "item": item, "loop": loop}
                return await self._attempts(step, inner, site.turn(index))

        tasks = [asyncio.create_task(one(index, item)) for index, item in enumerate(items)]
        try:
            results = [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return {name: [result[name] for result in results] for name in step.outputs}

    async def _action(self, step: Step, scope: Scope, site: Site) -> Any:
        action = step.action
        if isinstance(action, Value):
            return {"value": action.expression.evaluate(scope)}
        if isinstance(action, Repeat):
            return await self._repeat(action, scope, site)
        arguments = {name: value.evaluate(scope) for name, value in action.arguments.items()}
        if isinstance(action, ModuleCall):
            return await call_module(self.run, self.plan.modules[action.module], arguments, site)
        if isinstance(action, ToolCall):
            return await self._tool(action, arguments, site)
        return await self._program(action, arguments, site)

    async def _repeat(self, repeat: Repeat, scope: Scope, site: Site) -> Any:
        """Run the steps of a loop until its `until` is true, or `at_most` times; return the last state by name."""
        bound = repeat.at_most.evaluate(scope)
        state = {name: value.evaluate(scope) for name, value in repeat.start.items()}
        for turn in range(bound):
            inner: Scope = {**scope, "state": state, "steps": dict(scope["steps"])}
            inner["loop"] = {"index0": turn, "first": turn == 0, "last": turn == bound - 1}
            await self._level(repeat.steps, inner, site.turn(turn))
            state = dict(state)
            for name, update in repeat.next.items():
                value = update.expression.evaluate(inner)
                if update.verb == "set":
                    state[name] = value
                elif value is not None:
                    state[name] = [*state[name], *(value if update.verb == "extend" else [value])]
            if repeat.until is not None and repeat.until.evaluate({**inner, "state": state}):
                break
        return state

    async def _tool(self, action: ToolCall, arguments: dict[str, Any], site: Site) -> Any:
        tool = self.plan.tools[action.tool]
        try:
            result = await call_tool(self.run, tool, arguments, site)
        except ToolFailed as error:
            raise StepFailed(error.kind, str(error), site.path) from error
        return {tool.result: result}

    async def _program(self, action: ProgramCall, arguments: dict[str, Any], site: Site) -> Any:
        """Run a sub-program on `arguments`, add its calls to the run's, and return its outputs by name; for a member of an
        ensemble (`answers`) under `answer`, which is None where the member failed by itself.

        Raises StepFailed where the sub-program fails.
        """
        lms = self.run.resources.inner_lms(action.plan, self.plan, self.run.lms)
        # They name modules of the outer program, which the inner one does not have.
        options = replace(self.options, module_params={}) if self.options.module_params else self.options
        run = self.run
        inner = Execution(action.plan, lms, run.resources, options, run.example, run.full_path(site.path))
        try:
            outputs, failure = await inner.execute(arguments, site.attempt)
        finally:
            run.calls.extend(((*site.place, *within), kind, fields) for within, kind, fields in inner.run.calls)
            run.answered.extend(((*site.place, *within), found) for within, found in inner.run.answered)
        if failure is not None:
            if action.answers and is_own(failure.kind):
                return {"answer": None}
            raise StepFailed(failure.kind, failure.message, f"{site.path}/{failure.path}")
        return {"answer": dict(outputs or {})} if action.answers else dict(outputs or {})
