"""The parts of steps, against the steps as they stand in the plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import Plan
from lmprog.compiler.steps.parts import bound, changed, ending, expressions, given, inner, programs, updates, walk
from lmprog.compiler.types.lattice import Type

ROOT = Path(__file__).parents[4]
FILES = [*(ROOT / "tests/specs/good").glob("*.yaml"), *(ROOT / "specs").rglob("*.yaml")]
SPECS = sorted(file for file in FILES if re.search(r"^lmprog:", file.read_text(encoding="utf-8"), re.MULTILINE))
"""Programs alone: beside them stand what fake LMs answer."""


def held(part: Any) -> Iterator[Any]:
    """Yield what a part of a plan holds, however deep, but nothing of sub-programs."""
    yield part
    if isinstance(part, dict):
        for value in part.values():
            yield from held(value)
    elif isinstance(part, tuple):
        for value in part:
            yield from held(value)
    elif is_dataclass(part) and not isinstance(part, Plan | Type | Expression | type):
        for field in fields(part):
            yield from held(getattr(part, field.name))


def plan_of(spec: Path) -> Plan:
    plan = compile_file(spec, imports=False, data=False).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_no_part_is_left_out(spec: Path) -> None:
    plan = plan_of(spec)
    every = [part for part in held(plan.steps) if type(part).__name__ == "Step"]
    assert [step.path for step in walk(plan.steps)] == [step.path for step in every]
    assert [called.path for called in programs(plan.steps)] == [
        part.path for part in held(plan.steps) if isinstance(part, Plan)
    ]
    for step in every:
        assert [id(each) for each in expressions(step)] == [
            id(part) for part in held(step) if isinstance(part, Expression)
        ]
        assert list(walk([step]))[1:] == [part for part in held(step) if type(part).__name__ == "Step"][1:]


def test_a_loop_says_its_parts() -> None:
    loops = [step for spec in SPECS for step in walk(plan_of(spec).steps) if bound(step) is not None]
    assert loops and any(ending(step) is not None for step in loops)
    for step in loops:
        assert inner(step) and updates(step).keys() <= step.outputs.keys() and given(step).keys() <= step.outputs.keys()
        paths = [part.path for part in inner(step)]
        seen: list[str] = []

        def note(part: Any, seen: list[str] = seen) -> Any:
            seen.append(part.path)
            return part

        assert [part.path for part in inner(changed(step, note))] == paths == seen
