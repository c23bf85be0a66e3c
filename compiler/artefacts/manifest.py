"""The artefacts of `lmprog compile`: manifest.json, the prompts with their holes, graph.mmd.

The same input gives the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmprog.compiler.artefacts.mermaid import mermaid
from lmprog.compiler.bounds import bounds
from lmprog.compiler.ensembles import name_of
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import (
    AdapterReference,
    Field,
    HubRows,
    Module,
    ModuleCall,
    Plan,
    ProgramCall,
    Repeat,
    Split,
    Step,
    ToolCall,
    Value,
)
from lmprog.compiler.prompts.messages import builder_of, message_text
from lmprog.compiler.schema.manifest_schema import manifest_schema
from lmprog.compiler.types.lattice import MESSAGES, ListOf, Object, Optional, Type, json_schema, without_none
from lmprog.compiler.types.python_reference import PythonReference
from lmprog.compiler.yaml.whole_file import write_all

MANIFEST_VERSION = 1


def manifest(plan: Plan) -> dict[str, Any]:
    """Return the description of a program as plain values for other tools, in the format of `manifest_schema`.

    Paths are relative to the program's folder, and nothing in it depends on the time, the machine or the environment.
    """
    folder = plan.path.parent
    worst = bounds(plan)
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": plan.name,
        "description": plan.description,
        "digest": plan.digest,
        "inputs": _fields(plan.inputs),
        "outputs": {
            name: {
                "type": str(plan.output_types[name]),
                "schema": json_schema(plan.output_types[name]),
                "from": expression.text,
            }
            for name, expression in plan.outputs.items()
        },
        "lms": {
            lm.id: {
                "model": lm.model,
                "params": dict(lm.params),
                "trusted": lm.trusted,
                "runs_here": lm.runs_here,
                "weights": lm.weights,
                "adapter": _adapter(lm.adapter, folder),
                "balance": [other.id for other in lm.balance],
                "fallback": [other.id for other in lm.fallback],
            }
            for lm in plan.lms.values()
        },
        "tools": {
            tool.id: {
                "kind": tool.kind,
                "python": _python(tool.python, folder),
                "parameters": _fields(tool.parameters),
                "result": tool.result,
                "type": str(tool.type),
                "trusted": tool.trusted,
                "effects": tool.effects,
            }
            for tool in plan.tools.values()
        },
        "modules": {name: _module(module, folder) for name, _, module in _modules(plan)},
        "steps": [_step(step) for step in plan.steps],
        "data": {split.name: _split(split, folder) for split in plan.data.values()},
        "metrics": {
            metric.id: {
                "kind": metric.kind,
                "python": _python(metric.computed_by, folder),
                "program": metric.judge.name if metric.judge is not None else None,
                "value": metric.computed_by.text if isinstance(metric.computed_by, Expression) else None,
                "with": _texts(metric.arguments),
                "range": list(metric.range),
            }
            for metric in plan.metrics.values()
        },
        "optimize": _optimize(plan),
        "bounds": {"lm_calls": dict(worst.calls), "total": worst.total_calls, "bounded": worst.bounded},
        "tuned": plan.tuned,
    }


def _modules(plan: Plan) -> Iterator[tuple[str, Plan, Module]]:
    """Yield the modules of a program, and of the members of an ensemble, each with its name and its program; a member's
    is named `<step>.<module>`."""
    for module in plan.modules.values():
        yield module.id, plan, module
    for number, member in enumerate(plan.members, 1):
        for module in member.modules.values():
            yield f"{name_of(number)}.{module.id}", member, module


def _fields(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        name: {
            "type": str(field.type),
            "schema": json_schema(field.type),
            "about": field.about,
            "private": field.private,
            "required": not field.has_default and not isinstance(field.type, Optional),
        }
        for name, field in fields.items()
    }


def _texts(expressions: Mapping[str, Expression]) -> dict[str, str]:
    return {name: expression.text for name, expression in expressions.items()}


def _path(path: Path | str | None, folder: Path) -> str | None:
    """Return a path relative to a folder, with forward slashes; a text or None unchanged."""
    if path is None or isinstance(path, str):
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def _python(reference: object, folder: Path) -> str | None:
    if not isinstance(reference, PythonReference):
        return None
    where = _path(reference.file, folder) if reference.file is not None else reference.module
    return f"{where}:{reference.name}"


def _adapter(adapter: AdapterReference | None, folder: Path) -> dict[str, Any] | None:
    if adapter is None:
        return None
    return {"path": _path(adapter.path, folder), "sha256": adapter.sha256, "base": adapter.base}


def _module(module: Module, folder: Path) -> dict[str, Any]:
    return {
        "lm": module.lm,
        "inputs": _fields(module.inputs),
        "outputs": _fields(module.outputs),
        "format": module.format,
        "decoding": module.decoding,
        "instructions": module.instructions,
        "demos": len(module.demos),
        "nearest": module.nearest,
        "tools": list(module.tools),
        "adapter": _adapter(module.adapter, folder),
    }


def _step(step: Step) -> dict[str, Any]:
    action = step.action
    entry: dict[str, Any] = {"id": step.id, "path": step.path, "after": sorted(step.after)}
    if isinstance(action, ModuleCall):
        entry |= {"module": action.module, "with": _texts(action.arguments)}
    elif isinstance(action, ToolCall):
        entry |= {"tool": action.tool, "with": _texts(action.arguments)}
    elif isinstance(action, ProgramCall):
        entry |= {"program": action.plan.name, "with": _texts(action.arguments)}
    elif isinstance(action, Value):
        entry |= {"value": action.expression.text}
    elif isinstance(action, Repeat):
        entry["repeat"] = {
            "at_most": action.at_most.text,
            "until": action.until.text if action.until is not None else None,
            "state": {name: str(field.type) for name, field in action.state.items()},
            "steps": [_step(inner) for inner in action.steps],
            "next": {name: {update.verb: update.expression.text} for name, update in action.next.items()},
        }
    entry["outputs"] = {name: str(kind) for name, kind in step.outputs.items()}
    entry["when"] = step.when.text if step.when is not None else None
    entry["foreach"] = step.foreach.items.text if step.foreach is not None else None
    return entry


def _split(split: Split, folder: Path) -> dict[str, Any]:
    return {
        "path": _path(split.path, folder),
        "hf": split.source.hf if isinstance(split.source, HubRows) else None,
        "columns": dict(split.columns),
        "where": dict(split.where),
        "limit": split.limit,
        "share": list(split.share) if split.share is not None else None,
    }


def _optimize(plan: Plan) -> dict[str, Any] | None:
    optimize = plan.optimize
    if optimize is None:
        return None
    return {
        "metric": optimize.metric,
        **({"reward": optimize.reward or dict(optimize.rewards)} if optimize.reward or optimize.rewards else {}),
        "train": optimize.train,
        "validate": optimize.validate,
        "tune": {id: sorted(parts) for id, parts in optimize.tune.items()},
        "stages": [{stage.optimizer: dict(stage.options)} for stage in optimize.stages],
        "seed": optimize.seed,
    }


def prompt_text(plan: Plan, module: Module) -> str:
    """Return a module's messages as they are sent, as text with a line `--- role` before each, and with the text
    `⟨name⟩` in the place of each value in an input, also of a number. A list has one such item, and earlier turns of a
    chat are left out. Raises RenderError or another error of a template that computes with its inputs."""
    values = {name: _hole(name, field.type) for name, field in module.inputs.items()}
    messages = builder_of(plan, module).build(values).messages
    return "".join(f"--- {message['role']}\n{message_text(message)}\n" for message in messages)


def _hole(name: str, kind: Type) -> Any:
    """Return a value that stands for an input in a prompt: `⟨name⟩`, or a list or object of such texts."""
    inner = without_none(kind)
    if inner == MESSAGES:
        return []
    if isinstance(inner, ListOf):
        return [_hole(name, inner.item)]
    if isinstance(inner, Object):
        return {field: _hole(f"{name}.{field}", part) for field, part in inner.fields}
    return f"⟨{name}⟩"


def _prompt(plan: Plan, module: Module) -> str:
    """Return what `prompt_text` does, or the templates of the module where that fails."""
    try:
        return prompt_text(plan, module)
    except Exception:
        # A template that computes with its inputs cannot be shown with words in their place.
        layout = module.layout
        parts = [("system", layout.system), ("user", layout.user), ("assistant", layout.assistant)]
        return "".join(f"--- {role} (template)\n{part.text}\n" for role, part in parts if part is not None)


def write_artefacts(plan: Plan, out: Path) -> list[Path]:
    """Write manifest.json, prompts/<module>.txt, manifest.schema.json and graph.mmd into the folder `out`, which is
    made; return their paths. Other files there stay. A prompt that `prompt_text` cannot show is written as its
    templates. Raises OSError where a file cannot be written; a full disk changes none."""
    prompts = out / "prompts"
    document = json.dumps(manifest(plan), indent=2, ensure_ascii=False, default=str)
    texts = {out / "manifest.json": document + "\n"}
    texts |= {prompts / f"{name}.txt": _prompt(its, module) for name, its, module in _modules(plan)}
    texts[out / "manifest.schema.json"] = json.dumps(manifest_schema(), indent=2) + "\n"
    texts[out / "graph.mmd"] = mermaid(plan)
    write_all(texts)
    return list(texts)
