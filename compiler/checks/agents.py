"""Agents and tools that do not go together: tools that no LM can know of or choose (606)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmprog.compiler.draft import Draft
from lmprog.compiler.model_table import takes_no_tools
from lmprog.compiler.plan import Module, Tool, ToolCall
from lmprog.compiler.steps.parts import walk

_DENIED = re.compile(
    r"\b(?:not|never|no|none|nothing|without|avoid|forbidden|instead of|other than|cannot|leaves?|ask|tell|delegate|agent)\b"
    r"|n't\b",
    re.IGNORECASE,
)
"""Words in the part of a sentence that names a tool which is not to be called, or which another agent is to call."""
_ALL_DENIED = re.compile(
    r"\W*(?:(?:please|you|must|should|may|can|shall|do)\W+)*(?:not|never|avoid|cannot|\w+n't)\b", re.IGNORECASE
)
"""The beginning of a sentence that denies all that it lists."""


def check(draft: Draft) -> None:
    """Report, of modules with `tools`: a tool without a description, a tool that the instructions name and `tools` does
    not list, and an LM whose model takes no tools in its API. The finding is LMP606.

    A tool that nothing uses at all is left to LMP202. A Python function is looked at where it may be imported.
    """
    called = {step.action.tool for step in walk(draft.steps) if isinstance(step.action, ToolCall)}
    listed: dict[str, str] = {}
    for id, module in draft.modules.items():
        listed = dict.fromkeys(module.tools, id) | listed
    for tool, module_id in listed.items():
        _described(draft, tool, module_id)
    for id, module in draft.modules.items():
        if module.tools:
            for named in _named_tools(draft, module):
                if named.id not in called and named.id in listed:
                    message = f"the instructions of module `{id}` name the tool `{named.id}`, which it cannot call"
                    place = draft.place("modules", id, "instructions")
                    draft.report.add("LMP606", place, message, fix=f"add {named.id} to its tools")
            _no_native_tools(draft, module)


def _described(draft: Draft, id: str, module: str) -> None:
    """Report a tool that has no description, at its entry; `module` is the first module that can call it."""
    tool = draft.tools.get(id)
    # One of several tools of a server has no `about:` here: the server describes it.
    if (
        tool is None
        or tool.about
        or "." in id
        or id in draft.open_tools
        or (tool.kind == "python" and not draft.options.imports)
    ):
        return
    message = f"the tool `{id}` has no description: the LM of module `{module}` sees its name and arguments alone"
    fix = "write about: under it" + (", or a docstring of its function" if tool.kind == "python" else "")
    draft.report.add("LMP606", draft.key("tools", id.partition(".")[0]), message, fix=fix)


def _named_tools(draft: Draft, module: Module) -> Iterator[Tool]:
    """Yield the tools that the instructions of a module certainly name, and that it cannot call; no tool whose name is that
    of a field of the module."""
    text = module.instructions or ""
    known = {*module.inputs, *module.outputs, *module.tools, *(tool.rpartition(".")[2] for tool in module.tools)}
    for id, tool in draft.tools.items():
        if id not in known and id.rpartition(".")[2] not in known and names(text, id.rpartition(".")[2]):
            yield tool


def names(text: str, id: str) -> bool:
    """Return whether instructions certainly name a tool of this id to be called: with `_` in it, in backticks or with `(`
    behind it, in a sentence that denies nothing."""
    name = re.escape(id)
    form = rf"`(?:\w+\.)?{name}(?:\(\))?`|(?<![\w`]){name}\(" + (
        rf"|(?<![\w`/.-]){name}(?![\w/-])" if "_" in id else ""
    )
    for sentence in re.split(r"(?<=[.!?;])\s+|\n(?=\W)|\n\n", text) if id in text else ():
        said = () if _ALL_DENIED.match(sentence) else sentence.split(",")
        if any(re.search(form, clause) and not _DENIED.search(clause) for clause in said):
            return True
    return False


def _no_native_tools(draft: Draft, module: Module) -> None:
    lm = draft.lms.get(module.lm)
    if lm is None or lm.tool_protocol != "native" or lm.api_base is not None or not takes_no_tools(lm.model):
        return
    message = f"module `{module.id}` has tools, and {lm.model} takes none in its API, as a table of models has it"
    fix = f"write tool_protocol: text for the LM `{lm.id}`, which calls them in words, or take another model"
    draft.report.add("LMP606", draft.key("modules", module.id, "tools"), message, fix=fix)
