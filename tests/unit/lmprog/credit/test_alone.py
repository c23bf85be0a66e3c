"""The tuning of each module alone, against all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lmprog
from lmprog import UsageError
from lmprog.compiler.plan import AdapterReference
from lmprog.credit.alone import gains, tuned_modules, versions, with_tuned

SPEC = """
    lmprog: 1
    inputs: {text: str}
    outputs: {said: "${{ steps.a.said + steps.b.said }}"}
    lms: {lm: {model: openai/none, trusted: true}}
    modules:
      one: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: "0"}
      two: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: "0"}
      three: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: "0"}
    steps:
      a: {module: one, with: {text: "${{ inputs.text }}"}}
      b: {module: two, with: {text: "${{ inputs.text }}"}}
      c: {module: three, with: {text: "${{ inputs.text }}"}}
    data: {dev: dev.jsonl}
    metrics: {gain: {python: "./metrics.py:gain", with: {said: "${{ outputs.said }}"}}}
"""
ROWS = [{"text": str(number)} for number in range(8)]


@pytest.fixture
def loaded(write, scripted):
    """The program as a file of that text, whose LM says what its instructions are."""

    def make(text: str = SPEC, name: str = "program.yaml", gain: str = "int(said[0]) * int(said[1])") -> lmprog.Program:
        write('{"text": "0"}\n', "dev.jsonl")
        write(f"def gain(said):\n    return {gain}\n", "metrics.py")
        return lmprog.load(write(text, name), lms={"lm": scripted(lambda request: request.messages[0]["content"][0])})

    return make


OVERLAY = """
    lmprog: 1
    extends: ./program.yaml
    modules: {one: {instructions: "1"}, two: {instructions: "1"}}
"""


def test_what_needs_both_modules_is_the_interplay(loaded) -> None:
    before, after = loaded(), loaded(OVERLAY, "tuned.yaml")
    told: list[None] = []
    found = asyncio.run(gains(before, after, ROWS, "gain", on_row=lambda: told.append(None)))
    assert {id: scores.mean for id, scores in found.alone.items()} == {"one": 0, "two": 0}
    assert (found.before.mean, found.together.mean, found.interplay.mean) == (0, 1, 1)
    assert len(told) == len(ROWS) * versions(found.alone) == 8 * 4


def test_what_is_added_has_no_interplay(loaded) -> None:
    gain = "0.3 * int(said[0]) + 0.2 * int(said[1]) + 0.1"
    before, after = loaded(gain=gain), loaded(OVERLAY, "tuned.yaml", gain=gain)
    found = asyncio.run(gains(before, after, ROWS, "gain"))
    assert {id: scores.against(found.before).mean for id, scores in found.alone.items()} == {
        "one": pytest.approx(0.3),
        "two": pytest.approx(0.2),
    }
    assert found.interplay.mean == pytest.approx(0) and found.together.mean == pytest.approx(0.6)


def test_one_tuned_module_is_scored_once(loaded) -> None:
    before, after = loaded(), loaded(OVERLAY.replace(', two: {instructions: "1"}', ""), "tuned.yaml")
    found = asyncio.run(gains(before, after, ROWS, "gain"))
    assert found.alone == {"one": found.together} and versions(found.alone) == 2
    assert len(before.lms["lm"].requests) == 2 * len(ROWS) * 3


def test_a_shared_adapter_counts_for_each_module_as_its_own(loaded) -> None:
    from dataclasses import replace

    before = loaded()
    reference = AdapterReference("x", sha256="7")
    plan = replace(before.plan, lms={"lm": replace(before.plan.lms["lm"], adapter=reference)})
    after = replace(before, plan=plan)
    assert tuned_modules(before.plan, after.plan) == ["one", "two", "three"]
    for some in [(), ("two",), ("one", "two", "three")]:
        mixed = with_tuned(before, after, some)
        lm: Any = mixed.lms["lm"]
        lm.requests.clear()
        mixed(text="x")
        adapters = {request.key[2]: request.adapter for request in lm.requests}
        names = {"a": "one", "b": "two", "c": "three"}
        assert adapters == {step: reference if names[step] in some else None for step in "abc"}
    # An adapter that the tuned program no longer has is gone from the module, and the others keep theirs.
    mixed = with_tuned(after, before, ("two",))
    assert [module.adapter for module in mixed.plan.modules.values()] == [reference, None, reference]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "no module of tuned.yaml has other words"),
        ("lms: {lm: {params: {temperature: 0.5}}}", "the module 'one' differs between program.yaml and tuned.yaml"),
        ("modules: {two: {retry: 2}}", "the module 'two' differs"),
        ("steps: {d: {module: one, with: {text: x}}}", "have other steps"),
    ],
)
def test_what_is_no_tuning_is_refused(loaded, change: str, message: str) -> None:
    before, after = loaded(), loaded(f"lmprog: 1\nextends: ./program.yaml\n{change}\n", "tuned.yaml")
    with pytest.raises(UsageError, match=message):
        tuned_modules(before.plan, after.plan)
