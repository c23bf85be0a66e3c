"""The LMs of a program within another: the outer program's own where they are declared equally, else new ones."""

from __future__ import annotations

from dataclasses import replace

from lmprog.compiler.plan import LM, Plan
from lmprog.runtime.resources import Resources


def plan(*lms: LM) -> Plan:
    from pathlib import Path

    return Plan("p", Path("p.yaml"), {}, {}, {}, {}, {lm.id: lm for lm in lms}, {}, {}, ())


def test_an_lm_that_is_declared_equally_is_the_outer_programs_own() -> None:
    small, large = LM("small", "openai/small"), LM("large", "openai/large", {"temperature": 0.5})
    outer = plan(small, replace(small, id="again"), large)
    lms = {id: object() for id in outer.lms}
    inner = plan(replace(small, id="again"), replace(large, id="big"), replace(small, id="tiny"))
    chosen = Resources(dry_run=True).inner_lms(inner, outer, lms)  # type: ignore[arg-type]
    # The one with the same id, or else the first that is equal.
    assert chosen == {"again": lms["again"], "big": lms["large"], "tiny": lms["small"]}


def test_an_lm_that_differs_is_made_anew() -> None:
    small = LM("small", "openai/small")
    outer, other = plan(small), plan(replace(small, params={"temperature": 1.0}))
    resources, lms = Resources(dry_run=True), {"small": object()}
    made = resources.inner_lms(other, outer, lms)["small"]  # type: ignore[arg-type]
    assert made is not lms["small"] and made is resources.lm(other.lms["small"])
