"""What a credit report can ask of LMs at most, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.bounds import judges
from lmprog.credit.order import Order
from lmprog.forecast import Forecast, Part, timed
from lmprog.program import Program
from lmprog.worst_case import Growth, asks


def forecast(
    program: Program,
    metric: str,
    sampled: Sequence[Mapping[str, Any]],
    repeats: int,
    compared: Sequence[Mapping[str, Any]] = (),
    versions: int = 0,
) -> Forecast:
    """Of `repeats` runs on each of `sampled` with their calls anew, and of so many versions on each of `compared`.

    A run in which a part is sampled anew is taken for one that asks everything.
    """
    judging = [ask for judge in judges(program.plan, metric) for ask in asks(judge, (), Growth(None, None))]
    run = asks(program.plan, [*sampled, *compared], Growth())
    runs = len(sampled) * repeats
    anew = sets_anew(program)
    parts = [
        Part("runs", [ask.times(runs) for ask in [*run, *judging]]),
        Part(
            "calls sampled anew",
            [*(ask.times(runs * anew) for ask in run), *(ask.times(runs * (anew + 1)) for ask in judging)],
        ),
    ]
    if versions:
        scored = len(compared) * versions
        parts.append(Part("modules tuned alone", [ask.times(scored) for ask in [*run, *judging]]))
    return timed(program, parts)


def sets_anew(program: Program) -> int:
    """How often at most a run is repeated with a part of its calls anew; with all of them replayed it is once more."""
    order = Order(program.plan)
    places = order.places()
    sets = order.sets(places)
    wanted = {chosen for counts in sets.own.values() for chosen in counts} | set(sets.reached.values())
    return len(wanted - {frozenset(places), frozenset()})
