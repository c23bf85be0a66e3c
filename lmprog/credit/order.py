"""Dependencies between the LM calls of a run: which later calls must be sampled anew when a call is.

A place is a step that calls a module, with the turns of the loops around it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmprog.compiler.bounds import turns
from lmprog.compiler.plan import ModuleCall, Plan, ProgramCall, Step
from lmprog.compiler.steps.parts import below, inner

Place = tuple[tuple[str, int | None], ...]
"""A step that calls a module: ids from the top, each with the turn of its loop, or None. The items of a `foreach`, and the
turns of an agent, are one place: they are answered anew together."""
Places = frozenset[Place]


@dataclass(frozen=True)
class Sets:
    """The sets of calls, by place in the program, that are sampled anew together; each module's credit is a sum over them.

    `own` has, by module, the sets with the coefficients by which the variance of each counts towards the module's own
    share; `reached` the places of each module and all places that may follow them.
    """

    own: dict[str, dict[Places, int]]
    """The sets of places with their coefficients, by module: each place of the module adds 1 to the set of it and all places
    that may follow it, and -1 to the set of those that may follow alone; sets with the sum 0 are left out."""
    reached: dict[str, Places]
    """The places of each module, and all places that may follow them."""


class Order:
    """The places of a plan at which calls are made, sub-programs included, and which of them depend on which.

    A place is a step that calls a module, with the turns of the loops around it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._before: dict[int, dict[str, frozenset[str]]] = {}

    def place(self, path: str) -> tuple[Place, str]:
        """Return the place of a call, and the name of its module, from the whole path of the call in a record
        (`outer[0].ask/inner`), which must be one of this plan: for another it raises StopIteration.

        The name of a module of a sub-program is `PATH.MODULE`, with the path of the step that runs the sub-program
        (`outer.ask.draft`).
        """
        place: list[tuple[str, int | None]] = []
        steps, prefix, name = self.plan.steps, "", ""
        for part in re.split(r"[./]", path):
            id, *indices = re.findall(r"[^\[\]]+", part)
            step = next(step for step in steps if step.id == id)
            if step.foreach is not None:
                indices = indices[1:]
            place.append((id, int(indices[0]) if indices else None))
            if isinstance(step.action, ModuleCall):
                name = f"{prefix}{step.action.module}"
            elif isinstance(step.action, ProgramCall):
                prefix = f"{prefix}{step.path}."
            steps = below(step)
        return tuple(place), name

    def follows(self, first: Place, then: Place) -> bool:
        """Return whether the request at the place `then` may depend on the reply at the place `first`.

        It may where a step reads (in `when` too) or `needs` the earlier step, directly or through others, and in a later turn
        of the same loop; not at the same place.
        """
        steps = self.plan.steps
        for (id, turn), (other, its) in zip(first, then, strict=False):
            if id != other:
                return id in self._all_before(steps)[other]
            if turn is not None and its is not None and turn != its:
                return turn < its
            steps = next(below(step) for step in steps if step.id == id)
        return False

    def places(self) -> dict[Place, str]:
        """Return the names of modules by the place of their calls in the plan, in the plan's order, as if each loop ran
        for all the turns that it may."""
        return dict(_places(self.plan, self.plan.steps, (), ""))

    def sets(self, places: dict[Place, str]) -> Sets:
        """Return the sets of calls to sample anew for a run that made calls at `places` (each with its module's name).

        Where one module follows another, most sets serve both.
        """
        own: dict[str, Counter[Places]] = {}
        reached: dict[str, Places] = {}
        for place, module in places.items():
            after = frozenset(other for other in places if self.follows(place, other))
            counts = own.setdefault(module, Counter())
            counts[after | {place}] += 1
            counts[after] -= 1
            reached[module] = reached.get(module, frozenset()) | after | {place}
        kept = {module: {chosen: sign for chosen, sign in counts.items() if sign} for module, counts in own.items()}
        return Sets(kept, reached)

    def anew(self) -> int:
        """Return how many times at most a credit report repeats one run, each time with another set of its calls sampled
        anew.

        One more repetition, which is not counted, replays all calls.
        """
        places = self.places()
        sets = self.sets(places)
        wanted = {chosen for counts in sets.own.values() for chosen in counts} | set(sets.reached.values())
        return len(wanted - {frozenset(places), frozenset()})

    def _all_before(self, steps: Sequence[Step]) -> dict[str, frozenset[str]]:
        """Return, by the id of each step of a level, the ids of the steps beside it that it follows, directly or through
        others."""
        found = self._before.get(id(steps))
        if found is None:
            found = self._before[id(steps)] = {}
            for step in steps:  # in an order that respects `after`
                found[step.id] = step.after.union(*(found[earlier] for earlier in step.after))
        return found


def _places(plan: Plan, steps: Sequence[Step], around: Place, prefix: str) -> Iterator[tuple[Place, str]]:
    """Yield the places of calls below `steps` with the names of their modules; `around` is the place of the step around
    them, `prefix` the paths of the steps that run the sub-program, each with a dot."""
    for step in steps:
        action = step.action
        if isinstance(action, ModuleCall):
            yield (*around, (step.id, None)), f"{prefix}{action.module}"
        elif isinstance(action, ProgramCall):
            yield from _places(action.plan, action.plan.steps, (*around, (step.id, None)), f"{prefix}{step.path}.")
        elif inner(step):
            for turn in range(turns(plan, step)):
                yield from _places(plan, inner(step), (*around, (step.id, turn)), prefix)
