"""The requests of a program's modules as JSON in the form of chat completions, whose texts are Jinja templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.types.lattice import IMAGE
from lmprog.errors import UsageError
from lmprog.exporting.exported import ExportedModule
from lmprog.exporting.form import notes
from lmprog.exporting.plain_jinja import fixed_text


def document(plan: Plan, modules: Sequence[ExportedModule]) -> dict[str, Any]:
    """Return the requests of modules as a dictionary: `program`, `digest`, `not_exported` (phrases), `steps` and `outputs`
    as the spec has them, and `modules` by name, each with `inputs`, `request` and `reply`. Raises UsageError for an input of
    images that may be none or several, which a list of messages cannot express."""
    return {
        "program": plan.name,
        "digest": plan.digest,
        "not_exported": [*notes(modules), "the steps between the modules, the reading of replies, and further tries"],
        "steps": plan.meaning.get("steps") or {},
        "outputs": plan.meaning.get("outputs") or {},
        "modules": {module.name: _module(module) for module in modules},
    }


def _module(module: ExportedModule) -> dict[str, Any]:
    fields = dict(module.fields)
    found: dict[str, Any] = {"inputs": {name: str(field.type) for name, field in module.inputs.items()}}
    defaults = {name: field.default for name, field in module.inputs.items() if field.has_default}
    if defaults:
        found["defaults"] = defaults
    found["request"] = {"model": fields.pop("model"), "messages": _messages(module), **fields}
    if any(text.writes_json for text in module.texts):
        found["tojson"] = "is json.dumps(value, ensure_ascii=False) of Python, not the filter that Jinja has"
    found["reply"] = module.reply()
    return found


def _messages(module: ExportedModule) -> list[dict[str, Any]]:
    found = [{"role": "system", "content": module.system.alone}] if module.system is not None else []
    found += [{"role": turn["role"], "content": _content(turn["content"])} for turn in module.demos]
    found += [{"placeholder": name} for name in module.earlier]
    if module.earlier and module.user.fixed is not None and not module.user.fixed.strip() and not module.images:
        return found
    return [*found, {"role": "user", "content": _user(module)}]


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return fixed_text(content).alone
    return [{**part, "text": fixed_text(part["text"]).alone} if "text" in part else part for part in content]


def _user(module: ExportedModule) -> Any:
    for name in module.images:
        if module.inputs[name].type != IMAGE:
            raise UsageError(
                f"the images of `{name}` of the module `{module.name}` are none or several, which a list of messages cannot "
                "say: export with --python, --jinja or --langchain"
            )
    if not module.images:
        return module.user.alone
    text = [{"type": "text", "text": module.user.alone}] if module.user.template.strip() else []
    return [*text, *({"type": "image_url", "image_url": {"url": f"{{{{ {name} }}}}"}} for name in module.images)]
