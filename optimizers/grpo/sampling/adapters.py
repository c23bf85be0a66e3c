"""The adapters that a stage trains: one for each LM, or one for each module (`optimize.adapters`). Imports no torch.

During training the modules name these as their adapters, and nothing else of the program changes: a module that is not tuned, a
judge or a sub-program on the same model is answered as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.plan import AdapterReference, Plan
from lmprog.errors import LmprogError, UsageError
from lmprog.optimizers.candidate import Candidate
from lmprog.runtime.program import Program


@dataclass(frozen=True)
class Adapter:
    """An adapter in training: its name, the id of its LM (`lm`), the modules whose replies train it (`tuned`), and
    those that use it (`answered`).

    `start` is the adapter that it begins as (None: a new one), and `section` is the part of the spec that names it:
    `lms`, under its LM, or `modules`, under each of the tuned ones.
    """

    name: str
    """The id of its LM, or of its module."""
    lm: str
    tuned: tuple[str, ...]
    """The modules whose calls it is trained on."""
    answered: tuple[str, ...]
    """The modules that answer with it, those above among them."""
    start: AdapterReference | None
    """The adapter that training begins with a copy of; None for a new adapter, which changes nothing yet."""
    section: Literal["lms", "modules"]
    """The section of the overlay that names the adapter: its LM, or each of the tuned modules."""


def adapters_of(plan: Plan) -> tuple[Adapter, ...]:
    """Return the adapters that a stage of weights trains in this process, in the order of the program: one for each LM whose
    modules tune `weights`, or with `optimize.adapters: per_module` one for each of these modules.

    Raises LmprogError where no module tunes `weights`, or where the LM of one that does cannot be trained.
    """
    assert plan.optimize is not None
    tuned = [id for id in plan.modules if "weights" in plan.optimize.tune.get(id, ())]
    if not tuned:
        raise LmprogError("there are no weights to train: name `weights` for a module under `optimize.tune`")
    by_lm: dict[str, list[str]] = {}
    for id in tuned:
        by_lm.setdefault(plan.modules[id].lm, []).append(id)
    for lm in by_lm:
        if plan.lms[lm].trained_as is None:
            model = plan.lms[lm].model
            fix = f"; name them as lms.{lm}.weights: hf/..." if model.startswith(VLLM_PREFIX) else ""
            raise LmprogError(
                f"the weights of {lm!r} ({model}) cannot be trained: it does not run in this process{fix}"
            )
    if plan.optimize.adapters == "per_module":
        return tuple(_of_module(plan, id) for id in tuned)
    return tuple(_of_lm(plan, lm, tuple(modules)) for lm, modules in by_lm.items())


def refuse_several(plan: Plan) -> None:
    """Raise UsageError where the stages would train several adapters, or one on weights in 4 bits, which processes with
    --fsdp cannot share; do nothing where no LM that is tuned can be trained in this process."""
    assert plan.optimize is not None
    tuned = [plan.modules[id].lm for id, parts in plan.optimize.tune.items() if "weights" in parts]
    if not any(plan.lms[lm].trained_as for lm in tuned):
        return
    adapters = adapters_of(plan)
    packed = next((adapter.lm for adapter in adapters if plan.lms[adapter.lm].load is not None), None)
    if packed is not None:
        raise UsageError(
            f"FSDP with weights in 4 bits ({packed}) is not tested: leave `load` out, or start the processes without --fsdp, "
            "each with the whole model"
        )
    if len(adapters) > 1:
        names = ", ".join(adapter.name for adapter in adapters)
        raise UsageError(
            f"FSDP with several adapters in training ({names}) is not tested: tune weights on one LM with `adapters: per_lm`, "
            "or start the processes without --fsdp, each with the whole model"
        )


def _of_module(plan: Plan, id: str) -> Adapter:
    module = plan.modules[id]
    return Adapter(id, module.lm, (id,), (id,), module.adapter or plan.lms[module.lm].adapter, "modules")


def _of_lm(plan: Plan, lm: str, tuned: tuple[str, ...]) -> Adapter:
    own = plan.modules[tuned[0]].adapter  # a check holds that it is that of all of them
    if own is not None:
        return Adapter(lm, lm, tuned, tuned, own, "modules")
    answered = tuple(id for id, module in plan.modules.items() if module.lm == lm and module.adapter is None)
    return Adapter(lm, lm, tuned, answered, plan.lms[lm].adapter, "lms")


def answering(plan: Plan, trained: Mapping[Adapter, AdapterReference]) -> Plan:
    """Return the plan with its modules using the adapters in training; `trained` has the reference of each."""
    modules = dict(plan.modules)
    for adapter, reference in trained.items():
        modules.update({id: replace(plan.modules[id], adapter=reference) for id in adapter.answered})
    return replace(plan, modules=modules)


def in_training(program: Program, trained: Mapping[Adapter, AdapterReference]) -> Program:
    """Return the program with its modules using the adapters in training, also after `with_candidate`; `trained` has the
    reference of each.
    """
    return replace(
        program,
        plan=answering(program.plan, trained),
        resources=replace(program.resources),
        recompile=lambda overlay: answering(program.recompile(overlay), trained),
    )


def change_in(folder: Path, adapters: Iterable[Adapter], plan: Plan) -> Candidate:
    """Return the candidate for adapters that were written into `folder` (absolute), each in a folder of its name; their
    files and those of their base models are read for the digests."""
    from lmprog.lms.local.weights import base_sha256, sha256_of

    written = {}
    for adapter in adapters:
        base = plan.lms[adapter.lm].trained_as
        assert base is not None
        written[adapter] = {
            "path": str(folder / adapter.name),
            "sha256": sha256_of(folder / adapter.name),
            "base": base,
            "base_sha256": base_sha256(base, plan.lms[adapter.lm].load),
        }
    return change(written)


def trainable_whole(adapter: Adapter, plan: Plan) -> str:
    """Return the name of the model whose weights are all trained in place of `adapter`, as the spec has it.

    Raises UsageError where that is not tested: several models, adapters by module, a server that samples, weights in 4
    bits, or an adapter on the model.
    """
    lm = plan.lms[adapter.lm]
    if lm.load is not None:
        raise UsageError(f"`full: true` trains all weights of {lm.id}, and `load: {lm.load}` keeps them as they are")
    if len(adapters_of(plan)) > 1 or adapter.section != "lms":
        raise UsageError("`full: true` trains one model: tune weights on one LM, without `adapters: per_module`")
    if not lm.runs_here:
        raise UsageError(
            f"`full: true` trains {lm.id} in this process, and a server cannot load it whole after each step"
        )
    users = [module.adapter for module in plan.modules.values() if module.lm == lm.id]
    if lm.adapter is not None or any(users):
        raise UsageError(
            f"`full: true` begins from the model of {lm.id} alone, and the program has an adapter for it; merge that first "
            "(`lmprog export --merged`)"
        )
    return lm.model


def models_in(folder: Path, adapters: Iterable[Adapter]) -> Candidate:
    """Return the candidate for models that were written into `folder` (absolute), each in a folder of the name of the adapter
    that it was trained in place of."""
    return Candidate(models={each.lm: {"model": f"hf/{folder / each.name}"} for each in adapters})


def change(written: Mapping[Adapter, Mapping[str, str]]) -> Candidate:
    """Return the candidate for trained adapters; `written` has for each its `path` (absolute), its digest `sha256`, and
    model and digest of its base (`base`, `base_sha256`).
    """
    lms = {adapter.lm: found for adapter, found in written.items() if adapter.section == "lms"}
    of_modules = {
        id: found for adapter, found in written.items() if adapter.section == "modules" for id in adapter.tuned
    }
    return Candidate(adapters=lms, module_adapters=of_modules)
