"""Which adapters a stage trains, and who answers with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.plan import AdapterReference, Plan
from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.sampling.adapters import adapters_of, answering, change

ADAPTER = Path(__file__).parents[4] / "specs/data/adapter"
PER_MODULE = ("{metric: letters", "{metric: letters, adapters: per_module")
PROGRAM = """
lmprog: 1
name: three
inputs: {text: str}
outputs: {a: "${{ steps.a.said }}", b: "${{ steps.b.said }}", c: "${{ steps.c.said }}"}
lms: {lm: {model: hf/one}, other: {model: hf/two}}
modules:
  a: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say}
  b: {lm: lm, inputs: {text: str}, outputs: {said: str}, instructions: Say}
  c: {lm: other, inputs: {text: str}, outputs: {said: str}, instructions: Say}
steps:
  a: {module: a, with: {text: "${{ inputs.text }}"}}
  b: {module: b, with: {text: "${{ inputs.text }}"}}
  c: {module: c, with: {text: "${{ inputs.text }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics:
  letters: {python: ./metrics.py:same, with: {a: "${{ outputs.a }}", b: "${{ outputs.b }}"}}
optimize: {metric: letters, tune: {a: [weights], c: [weights]}, stages: [grpo]}
"""


@pytest.fixture
def plan(write) -> Callable[..., Plan]:
    def make(*replacements: tuple[str, str]) -> Plan:
        write("def same(a: str, b: str) -> bool:\n    return a == b\n", "metrics.py")
        write("".join(f'{{"text": "{n}"}}\n' for n in range(8)), "rows.jsonl")
        text = PROGRAM
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        found = compile_file(write(text))
        assert found.plan is not None, found.findings
        return found.plan

    return make


def test_one_for_each_lm_answers_all_its_modules(plan) -> None:
    first, second = adapters_of(plan())
    assert (first.name, first.tuned, first.answered, first.section) == ("lm", ("a",), ("a", "b"), "lms")
    assert (second.name, second.tuned, second.answered, second.section) == ("other", ("c",), ("c",), "lms")


def test_one_for_each_module_answers_it_alone(plan) -> None:
    first, second = adapters_of(plan(("{model: hf/one}", f"{{model: hf/one, adapter: {ADAPTER}}}"), PER_MODULE))
    assert (first.name, first.tuned, first.answered, first.section) == ("a", ("a",), ("a",), "modules")
    assert first.start == AdapterReference(ADAPTER) and second.start is None


def test_an_adapter_of_a_module_is_replaced_where_it_is_named(plan) -> None:
    first, _ = adapters_of(plan(("  a: {lm: lm,", f"  a: {{lm: lm, adapter: {ADAPTER},")))
    assert (first.name, first.answered, first.start) == ("lm", ("a",), AdapterReference(ADAPTER))
    assert change({first: {"path": "new"}}).as_overlay() == {"modules": {"a": {"adapter": {"path": "new"}}}}


def test_in_training_nobody_else_answers_with_it(plan) -> None:
    whole = plan(PER_MODULE)
    trained = answering(whole, {adapter: AdapterReference(adapter.name) for adapter in adapters_of(whole)})
    found = {id: module.adapter and module.adapter.path for id, module in trained.modules.items()}
    assert found == {"a": "a", "b": None, "c": "c"}
    assert trained.lms == whole.lms


def test_what_does_not_run_here_is_refused(plan) -> None:
    whole = plan()
    served = replace(whole.lms["other"], model="openai/two")
    with pytest.raises(LmprogError, match="cannot be trained"):
        adapters_of(replace(whole, lms={**whole.lms, "other": served}))
