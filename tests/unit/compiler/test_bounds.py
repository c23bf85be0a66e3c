"""The worst case of a run: what bounds a list, and bounds that are too large to be counted."""

from __future__ import annotations

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.bounds import MOST, bounds

SPEC = """
lmprog: 1
inputs: {text: str}
vars: {names: [a, b, c]}
lms: {lm: {model: embedded/smollm2-135m, price: {input: 1, output: 1}}}
modules: {say: {inputs: {text: str}, outputs: {said: str}}}
steps:
  all: {module: say, foreach: "${{ vars.names }}", with: {text: "${{ item }}"}}
  again:
    repeat: {at_most: 1HUGE, until: "${{ state.text == 'a' }}"}
    state: {text: {type: str, start: "${{ inputs.text }}"}}
    steps: {one: {module: say, with: {text: "${{ state.text }}"}, retry: 1HUGE}}
    next: {text: {set: "${{ steps.one.said }}"}}
outputs: {all: "${{ steps.all.said }}", said: "${{ steps.again.text }}"}
"""


@pytest.mark.parametrize(("huge", "times"), [("", 2), ("0" * 200, MOST), ("0" * 300, MOST)])
def test_the_worst_case_counts_a_list_of_constants_and_stops_at_a_number_that_no_run_reaches(
    write, huge, times
) -> None:
    plan = compile_file(write(SPEC.replace("HUGE", huge))).plan
    assert plan is not None
    found = bounds(plan)
    assert found.calls == {"say": 3 + times}
    assert found.bounded
    assert found.usd is not None
