"""`lmprog export --merged`: model folders with a program's adapters merged into the weights, for any other software to load."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from lmprog.compiler.plan import AdapterReference, Plan
from lmprog.compiler.yaml.whole_file import write_whole
from lmprog.errors import LmprogError, UsageError
from lmprog.version import __version__

NOTE = "lmprog.json"
"""The file in each folder that says what it was made of."""


@dataclass(frozen=True)
class Merge:
    """A merged model to write: its name, the id and model of the LM (`lm`, `model`), the adapter to merge into that
    model, and the ids of the modules of the program that use the result."""

    name: str
    """The id of the LM, or of the module whose adapter it is."""
    lm: str
    model: str
    adapter: AdapterReference
    modules: tuple[str, ...]


def merges_of(plan: Plan) -> list[Merge]:
    """Return the merged models that a program needs: first those of LMs, then those of modules with adapters of their
    own.

    An adapter that no module uses is left out. Raises UsageError where none remains, LmprogError where the weights of a
    model are not on this machine, or the spec loads them in another form (`load`).
    """
    plan = next(iter(plan.members), plan)  # the members of an ensemble differ in their words alone
    found: list[Merge] = []
    for lm in plan.lms.values():
        modules = tuple(id for id, module in plan.modules.items() if module.lm == lm.id and module.adapter is None)
        if lm.adapter is not None and modules:
            found.append(Merge(lm.id, lm.id, lm.trained_as or lm.model, lm.adapter, modules))
    taken = {merge.name for merge in found}
    for id, module in plan.modules.items():
        if module.adapter is not None:
            name = f"modules.{id}" if id in taken else id
            lm = plan.lms[module.lm]
            found.append(Merge(name, lm.id, lm.trained_as or lm.model, module.adapter, (id,)))
    if not found:
        fix = "name the overlay of a program whose weights `lmprog optimize` has tuned"
        raise UsageError(f"{plan.name} has no adapter, so there is nothing to merge; {fix}")
    for merge in found:
        if (load := plan.lms[merge.lm].load) is not None:
            raise LmprogError(
                f"the adapter of {merge.lm!r} was trained on weights with `load: {load}`, and merged into those of the files "
                "it would make another model than the one that was scored; train it without `load`, or use it as an adapter"
            )
        if plan.lms[merge.lm].trained_as is None:
            fix = f"name the model that it serves, as --lm {merge.lm}=hf/ORGANIZATION/MODEL"
            raise LmprogError(
                f"the weights of {merge.lm!r} ({merge.model}) are not here, so nothing can be merged into them; {fix}"
            )
    return found


def write_merged(plan: Plan, folder: Path) -> list[tuple[Merge, Path]]:
    """Write the merged models, all or none, and return each with its folder: `folder` for a single one, else folders
    inside it.

    Raises UsageError where `folder` holds something already, the errors of `merges_of`, any error of loading a model or
    an adapter, and InfrastructureError or OSError where the files cannot be written.
    """
    merges = merges_of(plan)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, so nothing was written; name a new folder, or an empty one")
    target = folder.resolve()
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    within = [(merge, "" if len(merges) == 1 else merge.name) for merge in merges]
    try:
        for merge, name in within:
            _write(plan, merge, beside / name)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [(merge, folder / name) for merge, name in within]


def _write(plan: Plan, merge: Merge, folder: Path) -> None:
    from lmprog.lms.local.weights import Weights, adapter_folder, base_sha256, sha256_of

    # Read anew: those that this process may answer with are not to change.
    Weights(merge.model, dtype="float32").write_merged(merge.adapter, folder)
    note = {
        "lmprog": __version__,
        "program": plan.name,
        "lm": merge.lm,
        "modules": merge.modules,
        "base": merge.model,
        "base_sha256": base_sha256(merge.model),
        "adapter": str(merge.adapter.path),
        "adapter_sha256": sha256_of(adapter_folder(merge.adapter)),
        "sha256": base_sha256(f"hf/{folder}"),
    }
    write_whole(folder / NOTE, json.dumps(note, indent=2) + "\n")
