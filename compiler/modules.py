"""Reading of `modules:`: inputs and outputs, prompt layout, demos, LM."""

from __future__ import annotations

from typing import Any

from lmprog.compiler.backends import LOCAL
from lmprog.compiler.declarations import adapter, pick_lm
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Field, Module, Tool
from lmprog.compiler.prompts import layout
from lmprog.compiler.prompts.call_turns import CALLS
from lmprog.compiler.prompts.messages import IMAGES, standard_layout
from lmprog.compiler.tools.demo_calls import check_calls
from lmprog.compiler.tools.kinds import kind_of
from lmprog.compiler.types.lattice import IMAGE, MESSAGES, UNKNOWN, mismatch, without_none
from lmprog.compiler.types.meant import meant
from lmprog.compiler.types.syntax import TypeReader, default_format
from lmprog.compiler.yaml.source import Mapping, Place, Sequence, shown_path


def read_modules(draft: Draft, types: TypeReader) -> dict[str, Module]:
    """Return the modules of the program by id, also those with mistakes, which become findings. `types` reads the types
    that are declared there. LMs, tools and vars that the modules name are marked as used in the draft."""
    node = draft.root.map("modules")
    found: dict[str, Module] = {}
    for id, entry in node.entries.items() if node else ():
        if isinstance(entry, Mapping):
            found[id] = _module(draft, types, id, entry)
    return found


def _module(draft: Draft, types: TypeReader, id: str, node: Mapping) -> Module:
    inputs = types.fields(node.map("inputs"), f"input of module `{id}`:")
    outputs = types.fields(node.map("outputs"), f"output of module `{id}`:")
    _names(draft, id, node, inputs, outputs)
    instructions = node.value("instructions")
    prompt = node.map("prompt")
    tools = _tools(draft, id, node)
    demos = _demos(draft, id, node, inputs, outputs, tools)
    drawn = layout.written(draft, id, prompt, inputs, outputs, demos) if prompt else None
    form = _format(draft, id, node, outputs)
    lm = pick_lm(draft, node, id)
    if lm in draft.lms and draft.lms[lm].backend.make == LOCAL:
        for name in (name for name, field in inputs.items() if field.type in IMAGES):
            message = f"module `{id}` takes an image, and {lm} runs in this process, where models read text alone"
            draft.report.add(
                "LMP203", draft.place("modules", id, "inputs", name), message, fix="use an LM behind an API"
            )
    return Module(
        id,
        lm,
        inputs,
        outputs,
        drawn or standard_layout({name: inputs[name] for name in inputs if name not in layout.RESERVED}, outputs, form),
        instructions=instructions,
        demos=demos,
        nearest=_nearest(node),
        format=form,
        decoding=node.value("decoding", "free"),
        tools=tools,
        max_turns=node.value("max_turns", 8 if tools else 1),
        retry=node.value("retry", 0),
        adapter=adapter(draft, node.get("adapter")),
    )


def _tools(draft: Draft, id: str, node: Mapping) -> tuple[str, ...]:
    """Return the ids of a module's tools, those of a whole server one by one; a name of no tool gets a finding and stays."""
    listed = node.get("tools")
    known = [*draft.tools, *draft.servers, *draft.dropped("tools")]
    found: dict[str, None] = {}
    for item in listed.items if isinstance(listed, Sequence) else ():
        name = str(item.plain())
        ids = draft.tool_ids(name)
        draft.use_tool(name)
        if ids is None and name not in known:
            draft.meant("tools", name)
            fix = suggestion(name, known, "tools")
            draft.report.add(
                "LMP103", item.place, f"module `{id}` names the tool `{name}`, which does not exist", fix=fix
            )
        for tool in () if ids is None else ids:
            _check_told(draft, id, draft.tools[tool], item.place)
        found |= dict.fromkeys((name,) if ids is None else ids)
    if listed is not None and node.value("tools") and node.value("max_turns") == 1:
        message = f"module `{id}` can call no tool: its only turn is for the reply"
        draft.report.add("LMP101", node.entries["max_turns"].place, message, fix="write max_turns: 2 or more")
    return tuple(found)


def _check_told(draft: Draft, id: str, tool: Tool, place: Place) -> None:
    """Report a tool whose arguments, or their types, the request of the agent `id` would not describe to its LM."""
    if kind_of(tool.kind).remote and tool.id in draft.open_tools:
        message = f"module `{id}` is not told what arguments `{tool.id}` takes"
        key = "schema" if tool.kind == "mcp" else "inputs"
        fix = f"write `{key}` under the tool `{tool.id}`"
        if tool.kind == "mcp":
            fix = f"run lmprog tools {shown_path(draft.path)}, or {fix}"
        draft.report.add("LMP604", place, message, fix=fix)
    elif tool.kind == "python":
        _warn_untyped(draft, id, tool, place)


def _warn_untyped(draft: Draft, id: str, tool: Tool, place: Place) -> None:
    """Warn of a Python tool with an argument without a type, or with `*args` or `**kwargs`, which the agent `id` is told
    nothing of."""
    untyped = [name for name, field in tool.parameters.items() if field.type == UNKNOWN]
    if untyped and draft.options.imports:
        said = " and ".join(f"`{name}`" for name in untyped)
        message = f"module `{id}` is not told what {said} of `{tool.id}` {'is' if len(untyped) == 1 else 'are'}"
        fix = f"annotate {'it' if len(untyped) == 1 else 'them'}: {', '.join(f'{name}: str' for name in untyped)}"
        draft.report.add("LMP604", place, message, severity="warning", fix=fix)
    elif tool.id in draft.starred_tools:
        message = f"module `{id}` is not told all arguments of `{tool.id}`: its function takes any"
        draft.report.add("LMP604", place, message, severity="warning", fix="name the arguments of the function")


def _names(draft: Draft, id: str, node: Mapping, inputs: dict[str, Field], outputs: dict[str, Field]) -> None:
    for name in outputs.keys() & inputs.keys():
        place = draft.key("modules", id, "outputs", name)
        draft.report.add("LMP101", place, f"`{name}` is an input and an output of module `{id}`", fix="rename one")
    for section, fields in (("inputs", inputs), ("outputs", outputs)):
        for name in fields:
            if name in layout.RESERVED:
                message = f"`{name}` has a meaning in templates, and cannot name a field of module `{id}`"
                draft.report.add("LMP101", draft.key("modules", id, section, name), message, fix="rename it")
    for section, fields in (("inputs", inputs), ("outputs", outputs)):
        if CALLS in fields and node.value("tools"):
            message = f"`{CALLS}` are the calls in the demos of an agent, and cannot name a field of module `{id}`"
            draft.report.add("LMP101", draft.key("modules", id, section, CALLS), message, fix="rename it")
    for name, field in outputs.items():
        if field.type in (MESSAGES, IMAGE):
            place = draft.place("modules", id, "outputs", name)
            draft.report.add("LMP203", place, f"a model cannot write a value of type {field.type}")
    if not outputs and node.get("outputs") is not None:
        draft.report.add("LMP101", draft.place("modules", id, "outputs"), f"module `{id}` needs an output")


def _format(draft: Draft, id: str, node: Mapping, outputs: dict[str, Field]) -> Any:
    written = node.value("format")
    if written is None:
        return default_format(outputs)
    if written == "text" and len(outputs) != 1:
        if outputs:
            place = node.entries["format"].place
            message = f"the format text reads one output, and module `{id}` has {len(outputs)}"
            draft.report.add("LMP203", place, message, fix="write fields or json")
        return default_format(outputs)
    return written


def listed_demos(node: Mapping) -> Sequence | None:
    """Return the list of demos in the node of a module, whether all of them are shown or, under `of`, the nearest; None
    where there is none."""
    written = node.get("demos")
    listed = written.get("of") if isinstance(written, Mapping) else written
    return listed if isinstance(listed, Sequence) else None


def _nearest(node: Mapping) -> int | None:
    written = node.get("demos")
    count = written.value("nearest") if isinstance(written, Mapping) else None
    return count if isinstance(count, int) else None


def _demos(
    draft: Draft,
    id: str,
    node: Mapping,
    inputs: dict[str, Field],
    outputs: dict[str, Field],
    tools: tuple[str, ...],
) -> tuple[dict[str, Any], ...]:
    written = listed_demos(node)
    fields = inputs | outputs
    missing_ok = {name for name, field in fields.items() if without_none(field.type) is not field.type}
    rows = []
    for position, entry in enumerate(written.items if written is not None else ()):
        if not isinstance(entry, Mapping):
            continue
        row = entry.plain()
        what = f"demo {position} of module `{id}`"
        for name, value in list(row.items()):
            if name == CALLS and node.value("tools"):
                if not check_calls(draft, what, entry.entries[name], tools):
                    del row[name]
                continue
            if name not in fields:
                fix = suggestion(name, fields, "fields")
                draft.report.add("LMP203", entry.key_place(name), f"{what} has the unknown field `{name}`", fix=fix)
                continue
            wrong = mismatch(value, fields[name].type)
            if wrong:
                right = meant(value, fields[name].type)
                draft.report.add("LMP203", entry.entries[name].place, f"{what}: `{name}`: {wrong}", fix=right)
        absent = [name for name in inputs if name not in row and name not in missing_ok]
        if absent:
            draft.report.add("LMP203", entry.place, f"{what} lacks the input `{absent[0]}`", fix=f"add {absent[0]}:")
        if outputs and not outputs.keys() & row.keys():
            draft.report.add("LMP203", entry.place, f"{what} has no output", fix=f"add {next(iter(outputs))}:")
        rows.append(row)
    return tuple(rows)
