"""Checks of the tool calls in an agent's demos: their form, the tools that they name, and the arguments and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Tool
from lmprog.compiler.types.lattice import mismatch
from lmprog.compiler.yaml.source import Mapping, Node
from lmprog.compiler.yaml.source import Sequence as Listed

KEYS = ("tool", "arguments", "result", "error")
"""The keys of a tool call in a demo."""
_FORM = "write [{tool: name, arguments: {...}, result: ...}], with a list of calls for a turn that makes several"


def check_calls(draft: Draft, what: str, node: Node, tools: Sequence[str]) -> bool:
    """Report what is wrong with the tool calls of a demo; return whether their form is good enough to write them into a
    prompt: a list of calls, each with a `tool` and, where it has `arguments`, a mapping of them.

    `node` is the value of `tool_calls`, `tools` are the ids of the agent's tools, and `what` names the demo in
    messages. Unknown keys, tools and arguments are reported, and do not make the form bad.
    """
    well = isinstance(node, Listed)
    if not well:
        draft.report.add("LMP101", node.place, f"{what}: `tool_calls` is a list of calls", fix=_FORM)
    for call in _calls(node):
        if not isinstance(call, Mapping) or not isinstance(call.value("tool"), str):
            draft.report.add("LMP101", call.place, f"{what}: a call has a `tool`, by its id", fix=_FORM)
            well = False
            continue
        for key in call.entries:
            if key not in KEYS:
                fix = suggestion(key, KEYS, "keys")
                draft.report.add("LMP101", call.key_place(key), f"{what}: a call has no key `{key}`", fix=fix)
        if ("result" in call.entries) == ("error" in call.entries):
            message = f"{what}: a call has a `result`, or the `error` that it ended with"
            draft.report.add("LMP101", call.place, message, fix=_FORM)
        if "arguments" in call.entries and call.map("arguments") is None:
            message = f"{what}: `arguments` of a call is a mapping"
            draft.report.add("LMP101", call.entries["arguments"].place, message, fix=_FORM)
            well = False
        elif "error" not in call.entries:  # what a failed call was, nobody has to be able to make
            _check_call(draft, what, call, tools)
    return well


def _calls(node: Node) -> Iterator[Node]:
    """Yield the nodes of all calls in `tool_calls`, whose items are calls or lists of calls that are made together."""
    for turn in node.items if isinstance(node, Listed) else ():
        yield from turn.items if isinstance(turn, Listed) else [turn]


def _check_call(draft: Draft, what: str, call: Mapping, tools: Sequence[str]) -> None:
    """Report a call of a tool that is not among `tools`, and arguments and results that do not fit the tool's types."""
    name = str(call.value("tool"))
    if name not in tools:
        message = f"{what} calls `{name}`, which is no tool of the module"
        draft.report.add("LMP103", call.entries["tool"].place, message, fix=suggestion(name, tools, "tools"))
        return
    tool = draft.tools.get(name)
    if tool is None:
        return
    given = call.map("arguments")
    for message, place in _wrong_arguments(tool, given):
        draft.report.add("LMP604", place or call.place, f"{what}: {message}")
    result = call.get("result")
    wrong = mismatch(result.plain(), tool.type) if result is not None else None
    if wrong and result is not None:
        draft.report.add("LMP203", result.place, f"{what}: the result of `{name}`: {wrong}")


def _wrong_arguments(tool: Tool, given: Mapping | None) -> Iterator[tuple[str, Any]]:
    """Yield a message for each argument that does not fit a tool, with its place; None in its place for one that is
    missing."""
    entries = given.entries if given is not None else {}
    for name, node in entries.items():
        if name in tool.parameters:
            wrong = mismatch(node.plain(), tool.parameters[name].type)
            if wrong:
                yield f"the argument `{name}` of `{tool.id}`: {wrong}", node.place
        elif not tool.open:
            yield f"`{tool.id}` takes no argument `{name}`", node.place
    for name, field in tool.parameters.items():
        if name not in entries and not field.has_default:
            yield f"`{tool.id}` needs the argument `{name}`", None
