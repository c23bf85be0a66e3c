"""Checks of stages that train all weights of a model (`full: true`): what they cannot begin from (LMP701)."""

from __future__ import annotations

from lmprog.compiler.checks.fine_tuning import training_stages
from lmprog.compiler.draft import Draft
from lmprog.compiler.optimizing.optimize_block import tuned_place
from lmprog.compiler.plan import LM, Optimize, Plan
from lmprog.compiler.yaml.source import Mapping, Node


def check(draft: Draft, plan: Plan, optimize: Optimize) -> None:
    """Report the first stage with `full: true` that trains more than one model, one that a server samples, one with an
    adapter (its own or a module's, or `adapters: per_module`), or one after a stage that trains an adapter. The finding is
    LMP701."""
    stages = [(entry, name, _full(entry, name)) for entry, name, _ in training_stages(draft)]
    tuned = {id: plan.lms.get(plan.modules[id].lm) for id, parts in optimize.tune.items() if "weights" in parts}
    here = {id: lm for id, lm in tuned.items() if lm is not None and lm.trained_as is not None}
    for place, (_, name, full) in enumerate(stages):
        if not full:
            continue
        for id, lm in here.items():
            wrong = _wrong(plan, optimize, here, lm)
            if wrong is None and any(not other for _, _, other in stages[:place]):
                wrong = (
                    f"a stage before it trains an adapter for `{lm.id}`, which the changed model would not fit",
                    "write full: true in both, or in neither",
                )
            if wrong is not None:
                message = f"`{name}` has `full: true`, and {wrong[0]}"
                draft.report.add("LMP701", tuned_place(draft, id, "weights"), message, fix=wrong[1])
                return


def _full(entry: Node, name: str) -> bool:
    options = entry.map(name) if isinstance(entry, Mapping) else None
    return options is not None and options.plain().get("full") is True


def _wrong(plan: Plan, optimize: Optimize, here: dict[str, LM], lm: LM) -> tuple[str, str] | None:
    """Return what keeps the weights of an LM from being trained whole, as the end of a sentence, and the fix; None where
    nothing does. `here` are the LMs whose weights are tuned in this process, by the id of a module."""
    models = {each.id for each in here.values()}
    if len(models) > 1:
        return f"trains one model, not {len(models)}", "leave the weights of the others out of tune:"
    if lm.load is not None:
        return f"`load: {lm.load}` of `{lm.id}` keeps its weights as they are", "leave load out, or full"
    if optimize.adapters == "per_module":
        return "adapters: per_module wants an adapter for each module", "leave adapters out"
    if not lm.runs_here:
        return (
            f"the server of `{lm.id}` would have to load the model after each step",
            "train an adapter: leave full out",
        )
    if lm.adapter is not None or any(module.adapter for module in plan.modules.values() if module.lm == lm.id):
        return f"`{lm.id}` has an adapter, which the changed model would not fit", "merge it (lmprog export --merged)"
    return None
