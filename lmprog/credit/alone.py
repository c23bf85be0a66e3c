"""The gain of each module's tuning by itself, compared with the gain of all together.

Two versions of a program, such as an overlay and the program that it extends, differ in the words and adapters of
some modules. Each of these modules is put alone into the version before, and then all of them. An adapter that
several modules share counts for each separately: when a module is tuned alone, it uses the adapter and the others do
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler.plan import AdapterReference, Module, Plan
from lmprog.compiler.same_lm import answers_of
from lmprog.errors import ProviderError, UsageError
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.scoring.evaluation import Scores, aevaluate
from lmprog.scoring.statistics import Difference, paired


@dataclass(frozen=True)
class Gains:
    """The scores of a program on the same rows before tuning (`before`), with each tuned module alone (`alone`, by module
    id), and with all of them (`together`)."""

    before: Scores
    alone: Mapping[str, Scores]
    """Scores with one module tuned alone, by tuned module."""
    together: Scores

    @property
    def interplay(self) -> Difference:
        """The gain of all tuned modules together beyond the sum of their gains alone, over the rows that are scored in every
        version; negative where they gain less together.

        Raises ProviderError where no row is.
        """
        each = [self.before.by_row, self.together.by_row, *(scores.by_row for scores in self.alone.values())]
        rows = [row for row in each[0] if all(row in scores for scores in each)]
        if not rows:
            raise ProviderError("no row was scored in every version, so they cannot be compared")
        before, together, *alone = ([scores[row] for row in rows] for scores in each)
        # The sum of gains over `before`, and `before` itself.
        added = [math.fsum(scores) - (len(alone) - 1) * start for start, *scores in zip(before, *alone, strict=True)]
        return paired(added, together)

    @property
    def all(self) -> list[Scores]:
        """The scores of all versions in this order: before, each module alone, together. With one tuned module the last two
        are the same object."""
        return [self.before, *self.alone.values(), self.together]


def tuned_modules(before: Plan, after: Plan) -> list[str]:
    """Return the ids of the modules whose words (instructions, demos, layout) or adapters differ between two versions of a
    program, in the order of `before`. Modules of sub-programs are not looked at.

    Raises UsageError where the two have other steps, a module differs in more, such as its inputs or its LM, or no module
    differs.
    """
    if [step.path for step in before.steps] != [step.path for step in after.steps]:
        raise UsageError(
            f"{after.path.name} and {before.path.name} have other steps, so they are not one program tuned"
        )
    for id in dict.fromkeys([*before.modules, *after.modules]):
        old, new = before.modules.get(id), after.modules.get(id)
        if old is None or new is None or _kept(before, old) != _kept(after, new):
            raise UsageError(
                f"the module {id!r} differs between {before.path.name} and {after.path.name} in more than its words and its "
                "adapter; compare a tuned program with the one that it was tuned from"
            )
    found = [id for id in before.modules if _tuned(before, id) != _tuned(after, id)]
    if not found:
        raise UsageError(
            f"no module of {after.path.name} has other words or another adapter than in {before.path.name}"
        )
    return found


def with_tuned(before: Program, after: Program, modules: Collection[str]) -> Program:
    """Return the program `before` with each of `modules` (ids) as it is in `after`, with its words and the adapter
    that answers for it there; the other modules keep theirs, also where they share an LM with them. The two must be
    versions that `tuned_modules` accepts: the whole module is taken over, and only the LMs are those of `before`."""
    plan = before.plan
    mixed = {id: _answering(after.plan if id in modules else plan, id) for id in plan.modules}
    lms = {id: replace(lm, adapter=None) for id, lm in plan.lms.items()}
    return replace(before, plan=replace(plan, modules=mixed, lms=lms), resources=replace(before.resources))


async def gains(
    before: Program,
    after: Program,
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    options: RunOptions | None = None,
    on_row: Callable[[], None] | None = None,
) -> Gains:
    """Score on `rows`, by the metric of the id `metric`, the program `before`, the same with each tuned module of `after`
    alone, and with all of them; return the scores.

    `options` are those of the runs, as the seed (None: the usual ones); `on_row` is called after each scored run (None: nothing
    is). Tools that write are called. Raises UsageError where the two are not versions of one program (`tuned_modules`),
    MetricFailed where the metric fails on every row of `before` (of another version it is not raised), and errors that
    concern more than one run, such as BudgetExceeded.
    """

    async def scored(modules: Collection[str]) -> Scores:
        tell = (lambda row: on_row()) if on_row is not None else None
        return await aevaluate(with_tuned(before, after, modules), rows, metric, options=options, on_row=tell)

    tuned = tuned_modules(before.plan, after.plan)
    start = (await scored(())).checked()
    if len(tuned) == 1:
        alone = await scored(tuned)
        return Gains(start, {tuned[0]: alone}, alone)
    return Gains(start, {id: await scored((id,)) for id in tuned}, await scored(tuned))


def versions(tuned: Collection[str]) -> int:
    """Return how many versions of a program `gains` scores for these tuned modules (ids, at least one): 2 for a single
    module, whose scores alone are those of all together, else 2 more than there are modules."""
    return 2 if len(tuned) == 1 else len(tuned) + 2


def _adapter(plan: Plan, id: str) -> AdapterReference | None:
    return plan.modules[id].adapter or plan.lms[plan.modules[id].lm].adapter


def _answering(plan: Plan, id: str) -> Module:
    """Return a module that names the adapter which it is answered with, also where only its LM names one."""
    return replace(plan.modules[id], adapter=_adapter(plan, id))


def _tuned(plan: Plan, id: str) -> tuple[object, ...]:
    """Return the parts of a module that an optimizer may change; adapters are equal where their weights are."""
    module, adapter = plan.modules[id], _adapter(plan, id)
    weights = adapter and adapter.weights
    layout = [part and part.text for part in (module.layout.system, module.layout.user, module.layout.assistant)]
    return module.instructions, module.demos, module.nearest, layout, weights


def _kept(plan: Plan, module: Module) -> tuple[object, ...]:
    """Return the parts of a module that no optimizer changes."""
    lm = answers_of(plan.lms[module.lm])
    fields = [[(name, field.type) for name, field in part.items()] for part in (module.inputs, module.outputs)]
    return lm, fields, module.format, module.decoding, module.tools, module.max_turns, module.retry
