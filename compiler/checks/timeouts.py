"""Timeouts that no call can reach, because each step that makes the call ends before (202)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import ModuleCall, Plan, Step, ToolCall
from lmprog.compiler.steps.parts import inner
from lmprog.compiler.yaml.source import Mapping


def check(draft: Draft, plan: Plan) -> None:
    """Report a `timeout` of an LM or of a tool, where it is written, that is longer than the `timeout` of each step that
    calls the LM or tool, so that it has no effect. The finding is LMP202.

    LMs that write instructions or judge for a stage of `optimize`, stand in for others, are passed to a sub-program or may be
    trained by their provider are not looked at.
    """
    lms: dict[str, float] = {}
    tools: dict[str, float] = {}
    for step, seconds in _limited(plan.steps, float("inf")):
        if isinstance(step.action, ToolCall):
            tools[step.action.tool] = max(seconds, tools.get(step.action.tool, 0.0))
        elif isinstance(step.action, ModuleCall) and step.action.module in plan.modules:
            module = plan.modules[step.action.module]
            lms[module.lm] = max(seconds, lms.get(module.lm, 0.0))
            for tool in module.tools:
                tools[tool] = max(seconds, tools.get(tool, 0.0))
    for id, seconds in lms.items():
        if id in plan.lms and not _used_elsewhere(draft, plan, id):
            _report(draft, ("lms", id, "limits", "timeout"), f"LM `{id}`", plan.lms[id].limits.timeout, seconds)
    for id, seconds in tools.items():
        limit = plan.tools[id].timeout if id in plan.tools and "." not in id else None
        if limit is not None:
            _report(draft, ("tools", id, "timeout"), f"tool `{id}`", limit, seconds)


def _limited(steps: Iterable[Step], outer: float) -> Iterator[tuple[Step, float]]:
    """Yield each step and those inside it, with the most seconds of one try: the least timeout of the step and of the loops
    around it."""
    for step in steps:
        seconds = min(outer, step.timeout or outer)
        yield step, seconds
        yield from _limited(inner(step), seconds)


def _used_elsewhere(draft: Draft, plan: Plan, id: str) -> bool:
    stands_in = {other.id for lm in plan.lms.values() for other in lm.answering if other.id != lm.id}
    metrics = draft.root.map("metrics")
    judges = [entry for entry in metrics.entries.values() if isinstance(entry, Mapping)] if metrics else []
    given = (node.map("lms") for node in (*draft.step_nodes.values(), *judges))
    passed_on = {str(value.plain()) for lms in given if lms is not None for value in lms.entries.values()}
    if plan.optimize is None:
        return id in stands_in | passed_on
    stages = {value for stage in plan.optimize.stages for value in stage.options.values() if isinstance(value, str)}
    return id in stands_in | passed_on | stages | {plan.optimize.proposer} or bool(plan.lms[id].finetunes)


def _report(draft: Draft, path: tuple[str, ...], what: str, limit: float, seconds: float) -> None:
    if draft.node(*path) is None or limit <= seconds:
        return
    message = f"`timeout` of {what} ({limit:g} s) has no effect: each step that calls it ends after {seconds:g} s"
    draft.report.add("LMP202", draft.place(*path), message, fix=f"write at most {seconds:g} here, or more at the step")
