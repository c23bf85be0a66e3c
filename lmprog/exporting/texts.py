"""A program's prompts in one of the forms that `lmprog export` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Plan
from lmprog.errors import UsageError
from lmprog.exporting import jinja, langchain, messages, python
from lmprog.exporting.exported import ExportedModule, exported_modules
from lmprog.exporting.form import notes


@dataclass(frozen=True)
class ExportedTexts:
    """The texts of an export by file name, and `notes`: a phrase for each part of the exported modules that they do not
    hold."""

    texts: Mapping[str, str]
    notes: Sequence[str]


def exported_texts(plan: Plan, form: str, only: str | None = None) -> ExportedTexts:
    """Return the prompts of a program as texts by file name, in the form `messages` (messages.json), `jinja` (MODULE.jinja
    for each module), `langchain` or `python` (prompts.py); `only` names one module as the export does (None: all). No file
    is written.

    Raises UsageError where the program calls no module, or none of this name, or a prompt cannot be written in this form.
    """
    modules = _chosen(plan, exported_modules(plan), only)
    return ExportedTexts(_texts(plan, modules, form), notes(modules))


def _texts(plan: Plan, modules: Sequence[ExportedModule], form: str) -> dict[str, str]:
    if form == "jinja":
        return {f"{module.name}.jinja": jinja.template(plan, module) for module in modules}
    if form == "messages":
        document = messages.document(plan, modules)
        return {"messages.json": json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n"}
    return {"prompts.py": (langchain if form == "langchain" else python).source(plan, modules)}


def _chosen(plan: Plan, modules: Sequence[ExportedModule], only: str | None) -> Sequence[ExportedModule]:
    if not modules:
        raise UsageError(f"{plan.name} calls no module, so there is no prompt to export")
    if only is None:
        return modules
    known = [module.name for module in modules]
    if only not in known:
        fix = suggestion(only, known, "modules")
        raise UsageError(
            f"{plan.name} calls no module {only!r}; {fix or 'those that it calls are ' + ', '.join(known)}"
        )
    return [module for module in modules if module.name == only]
