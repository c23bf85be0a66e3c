"""Checks of weights that a provider trains: what its jobs cannot do (701), options and rows that they do not take (702)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmprog.compiler.backends import FINE_TUNING
from lmprog.compiler.bounds import bounds
from lmprog.compiler.checks.stages import options_of
from lmprog.compiler.draft import Draft
from lmprog.compiler.fine_tuning import LEAST_ROWS
from lmprog.compiler.optimizing.contract import Facts, facts_of
from lmprog.compiler.optimizing.optimize_block import tuned_place, written_stages
from lmprog.compiler.plan import LM, Fleet, Optimize, Plan, Stage
from lmprog.compiler.yaml.source import Mapping, Node, Place

JOB = "job"
"""The option of a stage with the settings of a provider's job, which no training in this process reads."""


def stages_of(draft: Draft) -> list[tuple[Node, str, Facts]]:
    """Return the stages, in the order of the spec, whose optimizer can have a provider train weights, whatever LMs the
    program has, each as its node, its name and the optimizer's facts; empty without `optimize`.
    """
    return [found for found in training_stages(draft) if found[2].finetunes]


def check(draft: Draft, plan: Plan, optimize: Optimize) -> None:
    """Report stages that would have a provider train weights that it cannot train, or with options that have no effect.
    The findings are LMP701 and LMP702."""
    tuned = [(id, plan.lms.get(plan.modules[id].lm)) for id, parts in optimize.tune.items() if "weights" in parts]
    there = [(id, lm) for id, lm in tuned if lm is not None and lm.finetunes]
    stages = stages_of(draft)
    for entry, name, facts in stages:
        written = entry.map(name) if isinstance(entry, Mapping) else None
        for key in written.entries if written is not None else ():
            assert written is not None
            _option(draft, name, key, written.key_place(key), there, facts)
    if not there or not stages:
        return
    for _, name, _ in (found for found in training_stages(draft) if not found[2].finetunes):
        id, lm = there[0]
        message = (
            f"`{name}` trains weights in this process, and those of `{lm.id}` ({lm.model}) are trained by its provider"
        )
        draft.report.add(
            "LMP701", tuned_place(draft, id, "weights"), message, fix="use sft alone, or an hf/ or embedded/ model"
        )
    here = next((lm for _, lm in tuned if lm is not None and lm.trained_as is not None), None)
    if here is not None:
        id, lm = there[0]
        message = (
            f"`{stages[0][1]}` trains `{here.id}` in this process and `{lm.id}` at its provider, and does one of both"
        )
        draft.report.add(
            "LMP701", tuned_place(draft, id, "weights"), message, fix="leave the weights of one of them out of tune:"
        )
    for id, lm in there:
        _module(draft, plan, optimize, id, lm, [other for other, of in there if of.id == lm.id])
    for entry, name, _ in stages:
        _rows(draft, plan, optimize, entry, name, [lm for _, lm in there])


def training_stages(draft: Draft) -> Iterator[tuple[Node, str, Facts]]:
    """Yield the stages whose optimizer trains weights, each as its node, its name and the optimizer's facts."""
    for entry in written_stages(draft.node("optimize", "stages")):
        name = str(next(iter(entry.entries), "") if isinstance(entry, Mapping) else entry.plain())
        facts = facts_of(draft, name)
        if facts.trains:
            yield entry, name, facts


def _option(draft: Draft, name: str, key: str, place: Place, there: Sequence[tuple[str, LM]], facts: Facts) -> None:
    if there and key not in facts.finetunes:
        lm = there[0][1]
        message = (
            f"nothing reads `{key}` of `{name}`: the weights of `{lm.id}` ({lm.model}) are trained by its provider"
        )
        draft.report.add("LMP702", place, message, fix="leave it out; `job` has what the provider is told")
    elif not there and key == JOB:
        message = f"nothing reads `{JOB}` of `{name}`: no provider trains the weights of this program"
        draft.report.add("LMP702", place, message, fix="leave it out")


def _module(draft: Draft, plan: Plan, optimize: Optimize, id: str, lm: LM, beside: Sequence[str]) -> None:
    module = plan.modules[id]
    if module.tools and lm.tool_protocol == "native":
        message = f"the agent `{id}` calls its tools natively in the API, and a provider is taught replies in words"
        fix = f"write lms.{lm.id}.tool_protocol: text, or leave its weights out of tune:"
        draft.report.add("LMP701", tuned_place(draft, id, "weights"), message, fix=fix)
    if isinstance(lm.api_base, Fleet):
        message = f"`{lm.id}` has several servers, and a job of fine-tuning is one server's"
        fix = "write one address as its api_base, or leave its weights out of tune:"
        draft.report.add("LMP701", tuned_place(draft, id, "weights"), message, fix=fix)
    if optimize.adapters == "per_module" and len(beside) > 1 and beside[0] == id:
        message = f"a provider trains one model for `{lm.id}`, and adapters: per_module wants one for each of " + (
            ", ".join(f"`{other}`" for other in beside)
        )
        fix = "leave adapters out, or give each module an LM of its own"
        draft.report.add("LMP701", draft.place("optimize", "adapters"), message, fix=fix)


def _rows(draft: Draft, plan: Plan, optimize: Optimize, entry: Node, name: str, lms: Sequence[LM]) -> None:
    """Report a stage that can gather fewer rows than OpenAI and Azure take."""
    rows = draft.rows.get(optimize.train)
    if rows is None or not any(lm.backend.finetunes == FINE_TUNING for lm in lms):
        return
    options = entry.map(name) if isinstance(entry, Mapping) else None
    given = options_of(draft, Stage(name, options.plain() if options is not None else {}))
    numbers = [given.get(key) for key in ("rows", "samples", "keep", "labelled")]
    most_calls = bounds(plan).total_calls
    listed = given.get("teachers")
    teachers = listed if isinstance(listed, list) else []
    taught = [teacher.get("rollouts", 2) if isinstance(teacher, dict) else 2 for teacher in teachers]
    if not all(isinstance(number, int) for number in [*numbers, *taught]):
        return
    count, samples, keep, labelled = (int(number or 0) for number in numbers)
    modules = sum("weights" in parts for parts in optimize.tune.values())
    most = min(count, len(rows)) * min(keep, samples + sum(taught)) * most_calls + min(labelled, len(rows)) * modules
    if 0 < most < LEAST_ROWS:
        message = f"`{name}` can find {most} replies to learn at most, and the provider trains on {LEAST_ROWS} or more"
        draft.report.add("LMP702", entry.place, message, fix="give it more train rows, samples, or labelled rows")
