"""Prompts of an author that do not say how to reply, where the reply is read by the names of the outputs (210)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import nodes

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Module
from lmprog.compiler.replies import formats
from lmprog.compiler.templates.compiled import Template, parse


def check(draft: Draft) -> None:
    """Report modules with a `prompt` of their own, without demos, whose messages name none of the outputs that a reply must
    name. The finding is LMP210.

    The standard prompt asks for the format of the reply; a prompt of the author has to do so itself, or by demos. Modules of
    the format `text`, with constrained decoding, or whose provider is sent a JSON schema need not.
    """
    for id, module in draft.modules.items():
        written = draft.node("modules", id, "prompt")
        if written is None or id in draft.unsure or not module.outputs:
            continue
        if module.format == "text" or module.decoding == "constrained" or _has_schema(draft, module):
            continue
        if module.demos or (draft.optimize is not None and "demos" in draft.optimize.tune.get(id, ())):
            continue
        if any(_names(output, text) for text in _texts(draft, module) for output in module.outputs):
            continue
        outputs = ", ".join(f"`{output}`" for output in module.outputs)
        message = f"the prompt of module `{id}` does not say how to reply, and the reply is read for {outputs}"
        asked = " ".join(formats.describe(module.format, module.outputs).split())
        draft.report.add("LMP210", draft.key("modules", id, "prompt"), message, fix=f"write in it: {asked}")


def _has_schema(draft: Draft, module: Module) -> bool:
    """Return whether the provider is sent the JSON schema of the reply, which has the names of the outputs."""
    lm = draft.lms.get(module.lm)
    return module.format == "json" and not module.tools and lm is not None and not lm.runs_here


def _names(output: str, text: str) -> bool:
    """Return whether a text has the name of an output as a word of its own, in any case, with blanks, `-` or nothing for
    each `_`."""
    words = r"[\s_-]*".join(re.escape(part) for part in output.split("_") if part)
    return re.search(rf"(?<![^\W_]){words}(?![^\W_])", text, re.IGNORECASE) is not None


def _texts(draft: Draft, module: Module) -> Iterator[str]:
    """Yield the texts of a module's messages that do not depend on its inputs, also those that only some rows are shown."""
    for template in (module.layout.system, module.layout.user):
        if template is None:
            continue
        yield from _constants(template)
        if "instructions" in template.variables:
            yield module.instructions or ""
        if "vars" in template.variables:
            yield repr(draft.vars)


def _constants(template: Template) -> Iterator[str]:
    tree = parse(template.text)
    yield from (node.data for node in tree.find_all(nodes.TemplateData))
    yield from (str(node.value) for node in tree.find_all(nodes.Const))
