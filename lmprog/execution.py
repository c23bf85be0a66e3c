"""One run of a plan: steps as soon as what they need is there, every LM call recorded, the first failure ending the run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lmprog.compiler import formats
from lmprog.compiler.expressions import EvaluationError
from lmprog.compiler.plan import Module, ModuleCall, Plan, ProgramCall, Repeat, Step, ToolCall, Value
from lmprog.compiler.templates import RenderError
from lmprog.compiler.types import Object
from lmprog.errors import InfrastructureError, ProviderError
from lmprog.invocation import Invocation
from lmprog.lms.lm import LM, Completion, Request
from lmprog.seeds import derive
from lmprog.tools import ToolFailed

if TYPE_CHECKING:
    from lmprog.program import RunOptions
    from lmprog.resources import Resources

CANCELLED = "cancelled before it was answered"
"""The error of a call that a timeout, or the failure of a step beside it, cut short."""

Scope = dict[str, Any]
Place = tuple[int, ...]
"""Where a step stands in the order of the plan: indices of steps and loop turns, from the top."""


@dataclass(frozen=True)
class Site:
    """Where in a run a step is at work: its place, its path as people read it, and which attempt this is.

    `attempt` counts from 0 over all the retries around: the second try of a step whose loop is in its third is one number.
    """

    place: Place = ()
    path: str = ""
    attempt: int = 0

    def step(self, index: int, id: str) -> Site:
        return Site((*self.place, index), f"{self.path}.{id}" if self.path else id, self.attempt)

    def turn(self, index: int) -> Site:
        return Site((*self.place, index), f"{self.path}[{index}]", self.attempt)


@dataclass(frozen=True)
class Failure:
    """Why a run failed. Only `unreadable` is the program's own failure and scores the metric's lowest value."""

    kind: str
    """`unreadable` reply, `provider`, `tool`, `expression`, `template`, `input` or `limit`."""
    message: str
    path: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class StepFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Execution:
    """Runs a plan once; afterwards `invocations()` gives its trace."""

    def __init__(
        self,
        plan: Plan,
        lms: Mapping[str, LM],
        resources: Resources,
        options: RunOptions,
        example: int | str,
        parent: str | None = None,
    ) -> None:
        self.plan, self.lms, self.resources, self.options = plan, lms, resources, options
        self.example, self.parent = example, parent
        self._made: list[tuple[Place, Invocation]] = []

    async def run(self, inputs: Mapping[str, Any], attempt: int = 0) -> tuple[Mapping[str, Any] | None, Failure | None]:
        """The outputs, or the failure that ended the run. Raises what is no matter of one run (a spent budget)."""
        defaults = {name: declared.default for name, declared in self.plan.inputs.items()}
        scope: Scope = {"inputs": {**defaults, **inputs}, "vars": self.plan.vars, "steps": {}}
        try:
            await self._level(self.plan.steps, scope, Site(attempt=attempt))
            return {name: value.evaluate(scope) for name, value in self.plan.outputs.items()}, None
        except StepFailed as failed:
            return None, failed.failure
        except EvaluationError as error:
            return None, Failure("expression", str(error), "outputs")

    def invocations(self) -> list[Invocation]:
        """The calls in the order of the plan, each with its index among the calls of its module."""
        # A sub-program may have a module of the same name: it is another module, and counts by itself.
        last: dict[tuple[str, str], tuple[int, Place | None]] = {}
        numbered = []
        for place, invocation in sorted(self._made, key=lambda made: (made[0], made[1].attempt)):
            # A retry stands at the same place as the call that it repeats, and shares its index.
            module = (invocation.program, invocation.module)
            call, before = last.get(module, (-1, None))
            call += place != before
            last[module] = call, place
            numbered.append(replace(invocation, call=call))
        return numbered

    async def _level(self, steps: tuple[Step, ...], scope: Scope, site: Site) -> None:
        """Run the steps of one level; each waits for those that it reads."""
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
        try:
            try:
                if step.when is not None and not step.when.evaluate(scope):
                    skipped = dict.fromkeys(step.outputs)
                    return skipped | {name: value.evaluate(scope) for name, value in step.otherwise.items()}
                if step.foreach is None:
                    return await self._attempts(step, scope, site)
                return await self._foreach(step, scope, site)
            except EvaluationError as error:
                raise StepFailed(Failure("expression", str(error), site.path)) from error
        except StepFailed:
            if step.on_error is None:
                raise
            return {name: value.evaluate(scope) for name, value in step.on_error.items()}

    async def _attempts(self, step: Step, scope: Scope, site: Site) -> Any:
        tries = 1 + (step.retry if self.options.retry else 0)
        for attempt in range(tries):
            limit = asyncio.timeout(step.timeout)
            try:
                async with limit:
                    return await self._action(step, scope, replace(site, attempt=site.attempt * tries + attempt))
            except TimeoutError as error:
                if not limit.expired():
                    raise
                if attempt + 1 == tries:
                    raise StepFailed(Failure("provider", f"no end after {step.timeout} seconds", site.path)) from error
            except StepFailed:
                if attempt + 1 == tries:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _foreach(self, step: Step, scope: Scope, site: Site) -> Any:
        assert step.foreach is not None
        items = list(step.foreach.items.evaluate(scope) or ())
        if step.foreach.at_most is not None and len(items) > step.foreach.at_most:
            message = f"{len(items)} items, more than at_most: {step.foreach.at_most}"
            raise StepFailed(Failure("limit", message, site.path))
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
            return await self._module(self.plan.modules[action.module], arguments, site)
        if isinstance(action, ToolCall):
            return await self._tool(action, arguments, site)
        return await self._program(action, arguments, site)

    async def _repeat(self, repeat: Repeat, scope: Scope, site: Site) -> Any:
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
            result = await self.resources.tool(tool)(**arguments)
        except ToolFailed as error:
            raise StepFailed(Failure("tool", str(error), site.path)) from error
        return {tool.result: result}

    async def _program(self, action: ProgramCall, arguments: dict[str, Any], site: Site) -> Any:
        lms = self._inner_lms(action.plan)
        # `params_of` names modules of the outer program, which the inner one does not have.
        options = self.options if self.options.params_of is None else replace(self.options, params={})
        inner = Execution(action.plan, lms, self.resources, options, self.example, self._whole(site))
        try:
            outputs, failure = await inner.run(arguments, site.attempt)
        finally:
            self._made.extend(((*site.place, *within), made) for within, made in inner._made)
        if failure is not None:
            raise StepFailed(replace(failure, path=f"{site.path}/{failure.path}"))
        return dict(outputs or {})

    def _whole(self, site: Site) -> str:
        """The path from the outermost program, as `outer_step/inner_step`."""
        return f"{self.parent}/{site.path}" if self.parent else site.path

    def _inner_lms(self, plan: Plan) -> dict[str, LM]:
        """A sub-program's LMs: one of ours where it names the same model in the same way, else one of its own."""
        from lmprog.lms import make_lm

        found = {}
        for id, lm in plan.lms.items():
            twin = next((ours for ours, mine in self.plan.lms.items() if replace(mine, id=lm.id) == lm), None)
            found[id] = self.lms[twin] if twin is not None else make_lm(lm)
        return found

    async def _module(self, module: Module, inputs: dict[str, Any], site: Site) -> Mapping[str, Any]:
        lm, whole = self.plan.lms[module.lm], self._whole(site)
        try:
            prompt = self.resources.prompt(module, self.plan.vars).build(inputs)
        except RenderError as error:
            raise StepFailed(Failure("template", str(error), site.path)) from error
        params = dict(lm.params)
        if self.options.params_of is None or module.id in self.options.params_of:
            params.update(self.options.params)
        messages = prompt.messages
        tries = 1 + (module.retry if self.options.retry else 0)
        for turn in range(tries):
            attempt = site.attempt * tries + turn
            adapter = module.adapter or lm.adapter
            request = Request(
                messages=messages,
                params=params,
                seed=derive(self.options.seed, self.example, self.options.rollout, module.id, whole, attempt),
                adapter=adapter,
                output_type=Object(tuple((name, field.type) for name, field in module.outputs.items())),
                format=module.format,
                constant=prompt.constant,
                key=(str(self.example), self.options.rollout, whole, attempt),
            )
            record = Invocation(
                program=self.plan.name,
                module=module.id,
                path=site.path,
                call=-1,
                example=self.example,
                rollout=self.options.rollout,
                attempt=attempt,
                inputs=inputs,
                messages=messages,
                text=None,
                outputs=None,
                seed=request.seed,
                prompt_sha256=_sha256(messages),
                weights=lm.model + (f"+{adapter.sha256 or adapter.path}" if adapter else ""),
                parent=self.parent,
            )
            started = time.perf_counter()
            try:
                completion = await self.lms[module.lm].complete(request)
            except asyncio.CancelledError:
                self._made.append((site.place, replace(record, error=CANCELLED, seconds=time.perf_counter() - started)))
                raise
            except InfrastructureError as error:
                self._made.append(
                    (site.place, replace(record, error=str(error), seconds=time.perf_counter() - started))
                )
                kind = "provider" if isinstance(error, ProviderError) else "infrastructure"
                if kind == "infrastructure":
                    raise
                raise StepFailed(Failure(kind, str(error), site.path)) from error
            record = _answered(record, completion, time.perf_counter() - started)
            try:
                reading = formats.read(module.format, module.outputs, completion.text)
            except formats.Unreadable as error:
                self._made.append((site.place, replace(record, error=str(error))))
                if turn + 1 == tries:
                    raise StepFailed(Failure("unreadable", str(error), site.path)) from error
                said = {"role": "assistant", "content": completion.text}
                asked = {"role": "user", "content": f"That reply cannot be read: {error}. Reply again, as asked."}
                messages = (*prompt.messages, said, asked)
                continue
            self._made.append((site.place, replace(record, outputs=reading.values, forgiven=reading.forgiven)))
            return reading.values
        raise AssertionError("unreachable: the last attempt returns or raises")


def _answered(record: Invocation, completion: Completion, seconds: float) -> Invocation:
    return replace(
        record,
        text=completion.text,
        prompt_token_ids=completion.prompt_token_ids,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        usage=completion.usage,
        finish_reason=completion.finish_reason,
        seconds=seconds,
    )


def _sha256(messages: Any) -> str:
    return hashlib.sha256(
        json.dumps(messages, ensure_ascii=False, default=str).encode(errors="surrogatepass")
    ).hexdigest()
