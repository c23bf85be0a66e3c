"""Checks for what nothing reads or uses (202), and for outputs that an `else` or `on_error` omits (203)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmprog.compiler.checks.agents import names
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import nearest
from lmprog.compiler.plan import Module, ModuleCall, ProgramCall, Step, ToolCall
from lmprog.compiler.prompts.messages import IMAGES, TURNS
from lmprog.compiler.steps.parts import below, walk
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar


def check(draft: Draft) -> None:
    """Report inputs, vars, LMs, tools, modules, outputs of modules, inputs of prompts and steps that nothing reads or uses
    (LMP202), and an `else` or `on_error` that leaves out an output which is read (LMP203). What has a finding for another
    reason, or is probably meant by a misspelt name, is not reported."""
    _respell(draft)
    _prompt_inputs(draft)
    _declared(draft)
    _module_outputs(draft)
    _incomplete_else(draft)
    _unread_steps(draft)


def _respell(draft: Draft) -> None:
    """Mark as read the steps and fields that misspelt references probably mean; the references have their findings."""
    steps: dict[str, set[str]] = {}
    for step in walk(draft.steps):
        steps.setdefault(step.id, set()).update(step.outputs)
    for name in list(draft.binder.reads):
        if name[0] != "steps" or len(name) < 2:
            continue
        id = name[1] if name[1] in steps else nearest(name[1], steps)
        if id is not None and len(name) > 2:
            field = name[2] if name[2] in steps[id] else nearest(name[2], steps[id])
            draft.binder.reads.add(("steps", id, field) if field is not None else ("steps", id))


def _unread_steps(draft: Draft) -> None:
    """Report value steps, loops, programs and tools that only read, of which no output is read and no step inside changes
    anything outside. Outputs of modules are reported by `_module_outputs`."""
    read = {name[1] for name in draft.binder.reads if name[0] == "steps" and len(name) > 1}
    for step in walk(draft.steps):
        action = step.action
        tool = draft.tools.get(action.tool) if isinstance(action, ToolCall) else None
        acts = action is None or isinstance(action, ModuleCall | ToolCall)
        idle = not acts or (tool is not None and tool.effects == "read")
        if idle and step.id not in read and not _acts(draft, step):
            message = f"nothing reads what the step `{step.id}` gives"
            draft.report.add("LMP202", draft.step_keys[step.path], message, fix="read it, or remove the step")


def _acts(draft: Draft, step: Step) -> bool:
    """Return whether a loop or program step runs a step that calls a tool that writes, by itself or in an agent, or a
    program, whose steps are not looked at."""
    action = step.action
    plan = action.plan if isinstance(action, ProgramCall) else None
    tools = plan.tools if plan is not None else draft.tools
    modules = plan.modules if plan is not None else draft.modules
    for part in walk(below(step)):
        called = [part.action.tool] if isinstance(part.action, ToolCall) else []
        if isinstance(part.action, ModuleCall) and part.action.module in modules:
            called += modules[part.action.module].tools
        if isinstance(part.action, ProgramCall) or any(
            tools[name].effects == "write" for name in called if name in tools
        ):
            return True
    return False


def _prompt_inputs(draft: Draft) -> None:
    for id, module in draft.modules.items():
        prompt = draft.node("modules", id, "prompt")
        if prompt is None:
            continue
        templates = [module.layout.system, module.layout.user]
        used = frozenset().union(*(template.variables for template in templates if template is not None))
        if id in draft.unsure:
            continue
        for name, field in module.inputs.items():
            if name not in used and field.type not in TURNS + IMAGES:
                place = draft.key("modules", id, "inputs", name)
                message = f"the prompt of module `{id}` never uses its input `{name}`"
                single = next((found for found in _single_braces(prompt, name)), None)
                if single is not None:
                    place, message = single, f"`{{{name}}}` with single braces is text, and no input of module `{id}`"
                draft.report.add("LMP202", place, message, fix=f"write {{{{ {name} }}}} in the prompt, or remove it")


def _single_braces(prompt: Node, name: str) -> Iterator[Place]:
    """Yield the places where the templates of a prompt hold the input `name` in single braces, as other tools write a hole."""
    for role in ("system", "user"):
        node = prompt.get(role) if isinstance(prompt, Mapping) else None
        text = node.value if isinstance(node, Scalar) else None
        for found in re.finditer(rf"(?<!\{{)\{{ ?{re.escape(name)} ?\}}(?!\}})", text if isinstance(text, str) else ""):
            assert isinstance(node, Scalar)
            yield node.at(found.start(), len(found[0]))


def _declared(draft: Draft) -> None:
    read = draft.binder.reads
    inputs = {nearest(name[1], draft.inputs) for name in read if name[0] == "inputs" and len(name) > 1}
    if draft.node("inputs") is not None and not any(name == ("inputs",) for name in read):
        for name in draft.inputs:
            if name not in inputs:
                draft.report.add("LMP202", draft.key("inputs", name), f"nothing reads the input `{name}`")
    constants = {nearest(name[1], draft.vars) for name in read if name[0] == "vars" and len(name) > 1}
    constants |= {name[1] for name in draft.used if name[0] == "vars"}
    # A step whose verb has a finding would have used something: nobody knows what.
    lost = any(node.dropped & {"module", "tool", "program"} for node in draft.step_nodes.values())
    for section, what, used in (
        ("vars", "var", constants),
        ("lms", "LM", {name[1] for name in draft.used if name[0] == "lms"}),
        ("tools", "tool", {name[1] for name in draft.used if name[0] == "tools"}),
        ("modules", "module", {name[1] for name in draft.used if name[0] == "modules"}),
    ):
        for id in (*getattr(draft, section), *(draft.servers if section == "tools" else ())):
            # Of a server's tools nobody must use each.
            if section == "tools" and id.partition(".")[0] in draft.servers and "." in id:
                continue
            if id not in used and not (lost and section in ("modules", "tools")):
                asked = draft.modules.values() if section == "tools" else ()
                naming = next((each.id for each in asked if names(each.instructions or "", id)), None)
                add = f"add it to `tools` of module `{naming}`, whose instructions name it, or " if naming else ""
                fix = f"{add}remove it"
                draft.report.add("LMP202", draft.key(section, id), f"nothing uses the {what} `{id}`", fix=fix)


def _module_outputs(draft: Draft) -> None:
    """Report outputs, of modules that steps call, that are read neither at a call site nor by a metric through the trace.

    An output before one that is read counts as read: it is reasoning, in which the model thinks.
    """
    read: dict[str, set[str]] = {}
    whole: set[str] = set()
    for name in draft.binder.reads:
        if name[0] == "steps" and len(name) > 2:
            read.setdefault(name[1], set()).add(name[2])
        elif name[0] == "steps" and len(name) == 2:
            whole.add(name[1])
    by_module: dict[str, set[str]] = {}
    for step in walk(draft.steps):
        module = getattr(step.action, "module", None)
        if module in draft.modules:
            fields = set(draft.modules[module].outputs) if step.id in whole else read.get(step.id, set())
            # A field that does not exist has its finding: who knows which output was meant.
            strange = not fields <= draft.modules[module].outputs.keys()
            by_module.setdefault(module, set()).update(draft.modules[module].outputs if strange else fields)
    traced = [name[2:] for name in draft.binder.reads if name[0] == "trace"]
    for id, fields in by_module.items():
        if id in draft.misnamed:
            continue
        # A metric that reads a trace reads outputs by `trace.modules.<id>.outputs.<name>`, or by a part of that.
        for name in traced:
            if name[:1] in ((), (id,)):
                fields |= {name[2]} if len(name) > 2 and name[1] == "outputs" else set(draft.modules[id].outputs)
        _unread(draft, draft.modules[id], fields)


def _unread(draft: Draft, module: Module, fields: set[str]) -> None:
    names = list(module.outputs)
    last = max((names.index(name) for name in fields if name in names), default=-1)
    if last < 0 and names:
        place = draft.key("modules", module.id)
        message = f"nothing reads any output of module `{module.id}`"
        draft.report.add("LMP202", place, message, fix="read an output, or remove the step that calls it")
        return
    for name in names[last + 1 :]:
        place = draft.key("modules", module.id, "outputs", name)
        message = f"nothing reads the output `{name}` of module `{module.id}`"
        draft.report.add("LMP202", place, message, fix="remove it: the model writes it at every call")


def _incomplete_else(draft: Draft) -> None:
    """Report an `else` or `on_error` without an output of its step that is read: its values stand in for all outputs."""
    whole = {name[1] for name in draft.binder.reads if name[0] == "steps" and len(name) == 2}
    read: dict[str, set[str]] = {}
    for name in draft.binder.reads:
        if name[0] == "steps" and len(name) > 2:
            read.setdefault(name[1], set()).add(name[2])
    for step in walk(draft.steps):
        node = draft.step_nodes[step.path]
        reads = read.get(step.id, set()) | (set(step.outputs) if step.id in whole else set())
        for key in ("else", "on_error"):
            values = node.map(key)
            if values is None:
                continue
            for output in sorted(reads):
                respelled = any(nearest(key, [output]) for key in values.entries if key not in step.outputs)
                given = output in values.entries or output in values.dropped or respelled
                if output in step.outputs and not given:
                    message = f"`{key}` of step `{step.id}` gives no `{output}`, which is read"
                    draft.report.add("LMP203", node.key_place(key), message, fix=f"add {output}: to {key}:")
