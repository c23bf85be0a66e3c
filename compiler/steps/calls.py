"""Compilation of calls: the target of a step (module, tool or sub-program) and its arguments."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression, literal
from lmprog.compiler.findings.finding import nearest, suggestion
from lmprog.compiler.plan import LM, Field, ModuleCall, Plan, ProgramCall, ToolCall
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import Object, Optional, Type
from lmprog.compiler.yaml.source import Mapping, Scalar

Arguments = dict[str, Expression]


@dataclass(frozen=True, eq=False)
class Callee:
    """The target of a call (module, tool or program): its parameters, its outputs, and `call`, which makes the plan's
    action.

    `code` is that of the finding for a missing or unknown argument; `known` is False where the parameters are not all
    known.
    """

    name: str
    """The name in messages, such as "module `x`"."""
    parameters: Map[str, Field]
    outputs: Map[str, Type]
    call: Callable[[Arguments], Any]
    code: str = "LMP203"
    """The code of the finding for a missing or unknown argument."""
    known: bool = True
    """True if `parameters` lists all parameters."""


def callee(draft: Draft, path: str, node: Mapping) -> Callee | None:
    """Return the target of the call of the step at `path`, whose node is `node`; None for a step that calls nothing, and
    where the target does not exist or could not be read, which has a finding. The target counts as used."""
    for verb, find in (("module", _module), ("tool", _tool), ("program", _program)):
        named = node.get(verb)
        if isinstance(named, Scalar):
            return find(draft, path, node, named)
    return None


def _missing(draft: Draft, section: str, path: str, named: Scalar) -> None:
    """Report a target that is not in its section of the spec, unless it was written there and has a finding."""
    what = section.removesuffix("s")
    known = [*getattr(draft, section), *draft.dropped(section)]
    draft.meant(section, named.value)
    if named.value in draft.dropped(section) or draft.dropped_top(section):
        return
    message = f"step `{path}` names the {what} `{named.value}`, which does not exist"
    draft.report.add("LMP103", named.place, message, fix=suggestion(named.value, known, section))


def _module(draft: Draft, path: str, node: Mapping, named: Scalar) -> Callee | None:
    module = draft.modules.get(named.value)
    if module is None:
        _missing(draft, "modules", path, named)
        return None
    draft.used.add(("modules", module.id))
    outputs = {name: field.type for name, field in module.outputs.items()}
    whole = not _cut(draft, "modules", module.id, "inputs")
    parameters = module.inputs
    if _cut(draft, "modules", module.id, "outputs"):
        return None
    return Callee(f"module `{module.id}`", parameters, outputs, lambda given: ModuleCall(module.id, given), known=whole)


def _cut(draft: Draft, *path: str) -> bool:
    """Return whether the mapping at a path of keys, or entries of it, were left out because they have findings."""
    around = draft.node(*path[:-1])
    node = draft.node(*path)
    return (isinstance(around, Mapping) and path[-1] in around.dropped) or (
        isinstance(node, Mapping) and bool(node.dropped)
    )


def _tool(draft: Draft, path: str, node: Mapping, named: Scalar) -> Callee | None:
    tool = draft.tools.get(named.value)
    if tool is None:
        _no_tool(draft, path, named)
        return None
    draft.use_tool(tool.id)
    return Callee(
        f"tool `{tool.id}`",
        tool.parameters,
        {tool.result: tool.type},
        lambda given: ToolCall(tool.id, given),
        code="LMP604",
        known=tool.id not in draft.open_tools,
    )


def _no_tool(draft: Draft, path: str, named: Scalar) -> None:
    """Report a step's tool that does not exist, or that is a whole MCP server; a server whose tools are not known is not
    reported again, and counts as used."""
    ids = draft.tool_ids(named.value)
    if ids is None:
        _missing(draft, "tools", path, named)
        return
    draft.use_tool(named.value)
    if ids:
        message = f"step `{path}` names the MCP server `{named.value}`, and not which of its tools"
        draft.report.add("LMP103", named.place, message, fix=f"write {ids[0]}, or another of its tools")


def _program(draft: Draft, path: str, node: Mapping, named: Scalar) -> Callee | None:
    """Return the member of an ensemble or the program file that a step names; None, with findings, where it cannot be
    compiled."""
    member = draft.members.get(named.value)
    if member is not None:
        answer = Optional(Object(tuple(member.output_types.items())))
        what = f"member `{named.value}`"
        return Callee(what, member.inputs, {"answer": answer}, lambda given: ProgramCall(member, given, answers=True))
    file = draft.file(named, f"step `{path}`")
    plan = draft.compile(file, named.place, f"step `{path}`") if file is not None else None
    rebound = node.map("lms")
    check_rebound(draft, plan, rebound, f"step `{path}`")
    if plan is None:
        return None
    bound = rebind(draft, plan, rebound)
    return Callee(f"program `{plan.name}`", plan.inputs, plan.output_types, lambda given: ProgramCall(bound, given))


def check_rebound(draft: Draft, plan: Plan | None, rebound: Mapping | None, what: str) -> None:
    """Report (LMP103) ids under `lms` of a step or metric that this program, or the program that it runs, does not
    have; the LMs of this program that are named there count as used.

    `rebound` is that mapping, from ids of the program that is run to ids of this one (None: not written), `plan` the
    program that is run (None: it could not be read, and its side is not checked), `what` the words for the step or
    metric in messages.
    """
    for id, model in rebound.entries.items() if rebound else ():
        own = model.plain()
        draft.used.add(("lms", own))
        if own not in draft.lms and own not in draft.dropped("lms"):
            message = f"`lms` of {what} names the LM `{own}`, which does not exist"
            draft.report.add("LMP103", model.place, message, fix=suggestion(own, draft.lms, "LMs"))
        if plan is not None and id not in plan.lms:
            place = rebound.key_place(id)  # type: ignore[union-attr]
            message = f"the program of {what} has no LM `{id}`"
            draft.report.add("LMP103", place, message, fix=suggestion(id, plan.lms, "its LMs"))


def rebind(draft: Draft, plan: Plan, rebound: Mapping | None) -> Plan:
    """Return the plan of a sub-program or judge with some of its LMs replaced by LMs of this program, as `rebound`, the
    `lms` of a step or metric, says; the plan itself where that is None. Ids that do not exist are passed over. Of the
    programs that `plan` runs only the members of an ensemble get them too."""
    wanted = {id: model.plain() for id, model in rebound.entries.items()} if rebound else {}
    replaced = {id: draft.lms[own] for id, own in wanted.items() if id in plan.lms and own in draft.lms}
    return _with_lms(plan, replaced) if replaced else plan


def _with_lms(plan: Plan, lms: Map[str, LM]) -> Plan:
    """Return the plan with other LMs, by id, which the members of an ensemble get too."""
    members = {id(member): replace(member, lms={**member.lms, **lms}) for member in plan.members}
    steps = tuple(
        replace(step, action=replace(step.action, plan=members[id(step.action.plan)]))
        if isinstance(step.action, ProgramCall) and id(step.action.plan) in members
        else step
        for step in plan.steps
    )
    return replace(plan, lms={**plan.lms, **lms}, steps=steps, members=tuple(members.values()))


def arguments(draft: Draft, called: Callee, node: Mapping, scope: Scope, what: str) -> Arguments:
    """Return the typed arguments of a call by name, from `with` in the step's `node`, with the defaults of the
    parameters that it leaves out (not for a tool, which has its own defaults). Unknown, missing and unfit arguments get
    findings; unfit ones are returned all the same. `scope` has the names that they may read; `what` names the place in
    messages."""
    written = node.map("with")
    given: Arguments = {}
    for name, entry in written.entries.items() if written else ():
        expression = draft.binder.written(entry, scope, f"argument `{name}` of {what}")
        parameter = called.parameters.get(name)
        if parameter is None:
            if called.known:
                place = written.key_place(name)  # type: ignore[union-attr]
                known = [given for given in called.parameters if given not in written.entries]  # type: ignore[union-attr]
                fix = suggestion(name, known or called.parameters, "arguments")
                message = f"{what}: {called.name} takes no argument `{name}`"
                draft.report.add(called.code, place, message, fix=fix)
            elif expression is not None:
                given[name] = expression
            continue
        if expression is not None:
            draft.binder.fits(expression, parameter.type, entry, f"argument `{name}` of {called.name}", called.code)
            given[name] = expression
    dropped = written.dropped if written else (node.dropped if "with" in node.dropped else frozenset())
    for name, parameter in called.parameters.items():
        if name in given or (written is not None and name in written.entries) or name in dropped:
            continue
        if parameter.has_default or isinstance(parameter.type, Optional):
            if called.code != "LMP604":
                given[name] = literal(parameter.default, parameter.type)
        elif "with" not in node.dropped and not _meant(called, written, name):
            place = node.key_place("with") if written else node.place
            message = f"{what}: {called.name} needs the argument `{name}`"
            draft.report.add(called.code, place, message, fix=f"add {name}: to with:")
    return given


def unchecked(draft: Draft, node: Mapping, scope: Scope, what: str) -> None:
    """Read the arguments of a call whose target is unknown, from `with` in the step's `node`, to report mistakes in their
    expressions. `scope` has the names that they may read; `what` names the place in messages."""
    written = node.map("with")
    for name, entry in written.entries.items() if written else ():
        draft.binder.written(entry, scope, f"argument `{name}` of {what}")


def _meant(called: Callee, written: Mapping | None, name: str) -> bool:
    """Return whether one of the unknown arguments, which has a finding, was probably meant to be the parameter `name`."""
    strange = [given for given in written.entries if given not in called.parameters] if written else []
    return called.known and any(nearest(given, [name]) for given in strange)
