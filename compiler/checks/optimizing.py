"""Checks of optimizing: untrainable weights (701), no variation (702), unmoved metric (703), other base (704), no batches
(705)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from jinja2 import nodes

from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.batches import no_batches
from lmprog.compiler.bounds import bounds, judges
from lmprog.compiler.checks import fine_tuning, full_weights
from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.optimizing.optimize_block import tuned_place
from lmprog.compiler.plan import LM, AdapterReference, Module, Optimize, Plan
from lmprog.compiler.steps.parts import expressions, walk
from lmprog.compiler.templates.compiled import parse
from lmprog.compiler.yaml.files import followed, refusal
from lmprog.compiler.yaml.source import Scalar


def check(draft: Draft, plan: Plan, base_digest: Callable[[Path], str | None]) -> None:
    """Report weights that cannot be trained (LMP701), `weights` of an LM that nothing reads (LMP202), tuned parts that the
    prompt never shows (LMP702) or that cannot change the metric (LMP703), and `batch` with LMs that have no batches
    (LMP705); without `optimize` too: an overlay whose base has changed, and an adapter of another model or with other
    weights than its digest says (LMP704).

    `base_digest` returns the digest of the program that an overlay extends, by its file (None: it cannot be compiled,
    and counts as unchanged).
    """
    _unread_weights(draft, plan)
    if plan.optimize is not None:
        _weights(draft, plan, plan.optimize)
        fine_tuning.check(draft, plan, plan.optimize)
        full_weights.check(draft, plan, plan.optimize)
        _variation(draft, plan, plan.optimize)
        _effect(draft, plan, plan.optimize)
        if plan.optimize.batch:
            _batches(draft, plan)
    _base(draft, plan, base_digest)
    _adapters(draft, plan)


def _batches(draft: Draft, plan: Plan) -> None:
    """Report each LM that a run or a judge of the program asks and whose calls cannot wait for batches (LMP705)."""
    lms = {(lm.id, lm.model): lm for program in (plan, *judges(plan)) for lm in bounds(program).asked}
    for lm in lms.values():
        if (why := no_batches(lm)) is not None:
            message = f"`batch: true` wants batches of each model that a scoring asks, and `{lm.id}` ({lm.model}) {why}"
            draft.report.add("LMP705", draft.place("optimize", "batch"), message, fix="leave `batch` out")


def _weights(draft: Draft, plan: Plan, optimize: Optimize) -> None:
    trained: dict[str, list[Module]] = {}
    for id, parts in optimize.tune.items():
        module = plan.modules[id]
        lm = plan.lms.get(module.lm)
        if "weights" not in parts or lm is None:
            continue
        if lm.finetunes and fine_tuning.stages_of(draft):
            continue
        if lm.trained_as is None:
            message, fix = _untrained(draft, lm)
            draft.report.add("LMP701", tuned_place(draft, id, "weights"), message, fix=fix)
        else:
            trained.setdefault(lm.id, []).append(module)
    if optimize.adapters == "per_lm":
        for name, modules in trained.items():
            starts = {str(module.adapter.path) if module.adapter else "" for module in modules}
            if len(starts) > 1:
                _conflict(
                    draft, modules[-1].id, f"the modules of `{name}` share one adapter, and start from different ones"
                )
    else:
        started: dict[str, str] = {}
        for modules in trained.values():
            for module in modules:
                if module.adapter is not None:
                    other = started.setdefault(str(module.adapter.path), module.id)
                    if other != module.id:
                        _conflict(draft, module.id, f"the modules `{other}` and `{module.id}` tune one adapter apart")


def _untrained(draft: Draft, lm: LM) -> tuple[str, str]:
    """Return the reason why the weights of an LM cannot be trained, and the fix."""
    name = lm.model.partition("/")[2]
    if lm.model.startswith(VLLM_PREFIX):
        message = f"`{lm.id}` ({lm.model}) is served by vLLM, and to be trained here it must say which model that is"
        return message, f"write lms.{lm.id}.weights: hf/{name}"
    message = f"the weights of `{lm.id}` ({lm.model}) cannot be trained here"
    if lm.model.startswith("openai/") and lm.api_base is not None:
        return (
            message,
            f"of a server of vLLM: write model: {VLLM_PREFIX}{name} and weights: hf/{name}; else leave weights out",
        )
    if lm.finetunes:
        return (
            message,
            "train with sft, whose job its provider runs; or use an hf/ or embedded/ model, or leave weights out",
        )
    return message, "use an hf/ or embedded/ model, or leave weights out"


def _unread_weights(draft: Draft, plan: Plan) -> None:
    for lm in plan.lms.values():
        written, model = draft.node("lms", lm.id, "weights"), draft.node("lms", lm.id, "model")
        # As the file has it: another model may be bound in its place for a run.
        if written is not None and model is not None and not str(model.plain()).startswith(VLLM_PREFIX):
            message = f"nothing reads `weights` of `{lm.id}`: {model.plain()} is not served by vLLM"
            draft.report.add("LMP202", written.place, message, fix=f"remove it, or write model: {VLLM_PREFIX}...")


def _conflict(draft: Draft, id: str, message: str) -> None:
    place = draft.place("modules", id, "adapter") if draft.node("modules", id, "adapter") else draft.key("modules", id)
    draft.report.add("LMP701", place, message, fix="give both one adapter and adapters: per_lm, or each its own")


def _variation(draft: Draft, plan: Plan, optimize: Optimize) -> None:
    for id, parts in optimize.tune.items():
        if draft.node("modules", id, "prompt") is None or id in draft.unsure:
            continue
        module = plan.modules[id]
        if "demos" in parts and not _shows_demos(module):
            message = f"the demos of module `{id}` are tuned, and its prompt never shows them"
            fix = "print them in a for loop, or do not mention `demos`: then they are earlier turns"
            draft.report.add("LMP702", tuned_place(draft, id, "demos"), message, fix=fix)
        if "instructions" in parts and not _shows(module, "instructions"):
            message = f"the instructions of module `{id}` are tuned, and its prompt never shows them"
            fix = "write {{ instructions }} in the prompt"
            draft.report.add("LMP702", tuned_place(draft, id, "instructions"), message, fix=fix)


def _shows(module: Module, name: str) -> bool:
    templates = [module.layout.system, module.layout.user]
    return any(template is not None and name in template.variables for template in templates)


def _shows_demos(module: Module) -> bool:
    """Return whether a module's demos are sent as turns or printed; a test or count of demos does not show them."""
    if not module.layout.demos_inline:
        return True
    for template in (module.layout.system, module.layout.user):
        tree = parse(template.text) if template is not None else None
        if tree is not None and any(_prints_demos(node) for node in tree.find_all((nodes.Output, nodes.For))):
            return True
    return False


def _prints_demos(node: nodes.Node) -> bool:
    part: list[nodes.Node] = [node.iter] if isinstance(node, nodes.For) else list(getattr(node, "nodes", ()))
    while part:
        inner = part.pop()
        if isinstance(inner, nodes.Name) and inner.name == "demos":
            return True
        if not (isinstance(inner, nodes.Filter) and inner.name in ("length", "count")):
            part.extend(inner.iter_child_nodes())
    return False


def _effect(draft: Draft, plan: Plan, optimize: Optimize) -> None:
    metric = plan.metrics.get(optimize.metric)
    if metric is None or draft.report.failed:
        return
    for id, parts in optimize.tune.items():
        followed = optimize.rewards.get(id, optimize.reward)
        named = followed if parts == {"weights"} and followed is not None else optimize.metric
        if named in plan.metrics and id not in _modules_behind(plan, named):
            message = f"the module `{id}` is tuned, and cannot change the metric `{named}`"
            place = (
                draft.key("optimize", "tune", id) if draft.node("optimize", "tune", id) else draft.key("modules", id)
            )
            draft.report.add("LMP703", place, message, fix="leave it out of tune:, or measure what it does")


def _modules_behind(plan: Plan, metric: str) -> set[str]:
    """Return the ids of the modules that a metric depends on, through outputs, steps and other metrics; of all modules where
    it reads a trace or the runs of a row."""
    steps = {step.id: step for step in walk(plan.steps)}
    pending: list[Expression] = []
    metrics, found, seen = [metric], set(), set()
    while metrics:
        id = metrics.pop()
        if id in seen or id not in plan.metrics:
            continue
        seen.add(id)
        for expression in plan.metrics[id].expressions:
            for name in expression.references:
                if name[0] == "metrics" and len(name) > 1:
                    metrics.append(name[1])
                elif name[0] in ("trace", "runs"):
                    # Each module has a part in how a run went.
                    return set(plan.modules)
                elif name[0] == "outputs":
                    names = [name[1]] if len(name) > 1 else list(plan.outputs)
                    pending += [plan.outputs[output] for output in names if output in plan.outputs]
    done: set[str] = set()
    while pending:
        for name in pending.pop().references:
            if name[0] != "steps" or len(name) < 2 or name[1] in done or name[1] not in steps:
                continue
            done.add(name[1])
            step = steps[name[1]]
            pending += expressions(step)
            # A loop's outputs are its state: every step of its body may have a part in it.
            found |= {module for part in walk([step]) if (module := getattr(part.action, "module", None))}
    return found


def _base(draft: Draft, plan: Plan, base_digest: Callable[[Path], str | None]) -> None:
    extends, wanted = draft.root.get("extends"), (plan.tuned or {}).get("base_digest")
    if not isinstance(extends, Scalar) or not isinstance(wanted, str):
        return
    found = base_digest(followed(extends.source.folder / extends.value))
    if found is not None and found != wanted.removeprefix("sha256:"):
        message = f"{extends.value} has changed since this overlay was tuned on it"
        fix = "optimize again, or take tuned.base_digest out to accept the overlay as it is"
        draft.report.add("LMP704", extends.place, message, fix=fix)


def _adapters(draft: Draft, plan: Plan) -> None:
    for lm in plan.lms.values():
        if lm.adapter is not None:
            _adapter(draft, lm.adapter, lm.trained_as or lm.model, ("lms", lm.id, "adapter"))
    for module in plan.modules.values():
        model = plan.lms.get(module.lm)
        if module.adapter is not None and model is not None:
            _adapter(draft, module.adapter, model.trained_as or model.model, ("modules", module.id, "adapter"))


def _adapter(draft: Draft, adapter: AdapterReference, model: str, path: tuple[str, ...]) -> None:
    if adapter.base is not None and adapter.base != model:
        message = f"this adapter was trained on {adapter.base}, and the model is {model}"
        draft.report.add("LMP704", draft.place(*path, "base"), message, fix=f"use {adapter.base}, or another adapter")
    weights = Path(adapter.path) / "adapter_model.safetensors"
    if refusal(weights, draft.options.root) is not None:
        return  # a link to elsewhere, whose digest is nobody's business
    if adapter.sha256 is not None and not str(adapter.path).startswith("hf://") and os.path.isfile(weights):
        try:
            with weights.open("rb") as data:
                found = hashlib.file_digest(data, "sha256").hexdigest()
        except OSError as error:
            message = f"the weights of this adapter cannot be read: {error.strerror}"
            draft.report.add("LMP704", draft.place(*path, "sha256"), message, fix=f"make {weights.name} readable")
            return
        if found != adapter.sha256.removeprefix("sha256:"):
            message = "the weights of this adapter are not those that were tuned: the sha256 differs"
            draft.report.add("LMP704", draft.place(*path, "sha256"), message, fix=f"found {found}")
