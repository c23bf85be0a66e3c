"""Demos made of private rows, which `optimize` writes into an overlay that others can read (402)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Map

from lmprog.compiler.draft import Draft
from lmprog.compiler.optimizing.contract import facts_of
from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.flow import Trail
from lmprog.compiler.trust.private import private_columns
from lmprog.compiler.yaml.source import Mapping, Node, Place, Sequence

_TUNED = re.compile(r"^tuned:", re.MULTILINE)
_FIX = "take demos out of tune, or say in optimize: declassify: why the rows may be read by who has the overlay"


def check(draft: Draft, plan: Plan, reached: Map[str, Trail]) -> None:
    """Report demos of private values that are in an overlay, or that a stage would write into one (LMP402), where
    `optimize.declassify` gives no reason; and an empty reason (LMP403).

    `reached` has, by module id, the trail by which a private value gets into the module's calls; other modules get none.
    """
    optimize = plan.optimize
    reason = optimize.declassify if optimize is not None else None
    if reason is not None and not reason.strip():
        message = "demos are declassified without a reason"
        draft.report.add("LMP403", draft.place("optimize", "declassify"), message, fix="write why this is safe")
    if reason:
        return
    stages = optimize.stages if optimize is not None else ()
    writes = any(facts_of(draft, stage.optimizer).may_write("demos") for stage in stages)
    for id in plan.modules:
        trail = _private(plan, id, reached)
        if trail is None:
            continue
        demos = next((node for node in _demos(draft, id) if _TUNED.search(node.source.text)), None)
        if demos is not None:
            _tell(draft, demos.place, trail, id, "stand in this overlay")
        elif optimize is not None and writes and "demos" in optimize.tune.get(id, ()):
            _tell(draft, _tuned(draft, id), trail, id, "would stand in the overlay")


def _demos(draft: Draft, id: str) -> Iterator[Node]:
    """Yield the nodes of the demos of the module `id`: its own, and those of the members of an ensemble."""
    listed = draft.node("ensemble", "members")
    members = listed.items if isinstance(listed, Sequence) else []
    for modules in (draft.node("modules"), *members):
        module = modules.map(id) if isinstance(modules, Mapping) else None
        demos = module.get("demos") if module is not None else None
        if demos is not None:
            yield demos


def _private(plan: Plan, id: str, reached: Map[str, Trail]) -> Trail | None:
    """Return the trail of a private value into the demos of the module `id`; None where none gets there.

    The value comes from the module's calls (`reached`), is an output that the module declares private, or is a private
    column of the train rows that has the name of a field of the module.
    """
    if id in reached:
        return reached[id]
    module, optimize = plan.modules[id], plan.optimize
    for name, field in module.outputs.items():
        if field.private:
            return (f"{id}.{name} (private)",)
    split = plan.data.get(optimize.train) if optimize is not None else None
    columns = private_columns(plan, split) if split is not None else frozenset()
    for name in sorted(columns & {*module.inputs, *module.outputs}):
        return (f"data.{optimize.train if optimize is not None else ''}.{name} (private)",)
    return None


def _tuned(draft: Draft, id: str) -> Place:
    """Return the place under `tune` that has the module `id` tuned, or that of `optimize` where the spec has no `tune`."""
    if draft.node("optimize", "tune") is None:
        return draft.key("optimize")
    return draft.place("optimize", "tune", id)


def _tell(draft: Draft, place: Place, trail: Trail, id: str, how: str) -> None:
    source = trail[0].removesuffix(" (private)")
    message = f"demos of `{id}` hold the private value {source} and {how}, which others can read"
    draft.report.add("LMP402", place, message, path=(*trail, f"demos of {id}", "the overlay"), fix=_FIX)
