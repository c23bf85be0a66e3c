"""Two declarations are of one LM where they differ in nothing but their ids and places; all that compares LMs goes by it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import LM, AdapterReference, AdapterStore, Cache, Fleet, Limits, Plan, ProgramCall
from lmprog.compiler.same_lm import answers_of, same_lm, same_tokens, twin
from lmprog.compiler.types.lattice import STR
from lmprog.credit.alone import tuned_modules
from lmprog.errors import UsageError
from lmprog.lms.lm import Completion, Request


def env(name: str, place: str = "a.yaml:3:4") -> Expression:
    return Expression(f"env.{name}", STR, place=place)


OTHER: dict[str, tuple[Any, bool]] = {
    "model": ("openai/b", True),
    "params": ({"max_tokens": 9}, True),
    "trusted": (True, False),
    "api_key": (env("OTHER"), True),
    "api_base": (env("OTHER"), True),
    "adapter": (AdapterReference(Path("a"), "1234"), False),
    "adapter_store": (AdapterStore("/shared", "/shared"), False),
    "context": (9, False),
    "price": ({"input": 1.0}, False),
    "speed": ({"input": 1.0, "output": 2.0}, False),
    "headers": ({"X": env("KEY")}, True),
    "limits": (Limits(concurrency=2), False),
    "tool_protocol": ("native", True),
    "cache": (Cache(), False),
    "weights": ("hf/b", True),
    "load": ("4bit", True),
    "balance": ((LM("b", "openai/b"),), True),
    "fallback": ((LM("b", "openai/b"),), True),
}
"""For each field of a declaration another value, and whether the replies depend on it."""
ONE = LM("a", "openai/a", api_base=env("BASE"), headers={"X": env("X")})


def test_the_table_has_every_field() -> None:
    assert OTHER.keys() == {field.name for field in fields(LM)} - {"id", "batch"}


@pytest.mark.parametrize("name", sorted(OTHER))
def test_any_difference_but_the_id_makes_another_lm(name: str) -> None:
    value, replies = OTHER[name]
    other = replace(ONE, **{name: value})
    assert not same_lm(ONE, other) and not same_lm(other, ONE)
    assert (answers_of(ONE) != answers_of(other)) is replies
    assert same_lm(other, replace(other, id="b"))


def test_the_place_of_an_expression_and_of_weights_makes_no_other_lm() -> None:
    moved = replace(ONE, id="b", api_base=env("BASE", "b.yaml:9:1"), headers={"X": env("X", "b.yaml:9:9")})
    assert moved.api_base != ONE.api_base and same_lm(ONE, moved)
    among = (ONE, moved, replace(ONE, limits=Limits(concurrency=2)))
    one, other, third = (replace(ONE, fallback=(each,)) for each in among)
    assert same_lm(one, other) and not same_lm(one, third)
    one, other = (replace(ONE, adapter=AdapterReference(Path(path), "1234")) for path in ("a", "b"))
    assert same_lm(one, other)
    assert not same_lm(one, replace(ONE, adapter=AdapterReference(Path("a"), "5678")))
    assert not same_lm(
        replace(ONE, adapter=AdapterReference(Path("a"))), replace(ONE, adapter=AdapterReference(Path("b")))
    )


def test_an_lm_whose_calls_wait_for_a_batch_is_the_same() -> None:
    assert same_lm(ONE, replace(ONE, batch=True))


def test_a_fleet_is_the_same_where_its_servers_are() -> None:
    one, moved, other = (
        replace(ONE, api_base=Fleet((env("A", place), env(name, place))))
        for place, name in (("a.yaml:1:1", "B"), ("b.yaml:2:2", "B"), ("a.yaml:1:1", "C"))
    )
    assert same_lm(one, moved) and not same_lm(one, other) and not same_lm(one, ONE)
    assert not same_lm(one, replace(ONE, api_base=Fleet(discover=Path("servers.txt"))))


def test_of_several_the_one_with_the_same_id_is_taken() -> None:
    among = {id: replace(ONE, id=id) for id in ("x", "a", "y")}
    assert twin(ONE, among) == "a"
    assert twin(replace(ONE, id="z"), among) == "x"
    assert twin(replace(ONE, model="openai/b"), among) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (LM("a", "hf/a"), LM("b", "hf/a"), True),
        (LM("a", "hf/a"), LM("b", "hosted_vllm/x", weights="hf/a"), True),
        (LM("a", "hf/a"), LM("b", "hf/b"), False),
        (LM("a", "hf/a", fallback=(LM("c", "hf/b"),)), LM("b", "hf/a"), False),
        (LM("a", "hf/a", fallback=(LM("c", "hf/a"),)), LM("b", "hf/a"), True),
        (LM("a", "openai/a"), LM("b", "openai/a"), False),  # nothing is known of their tokens
    ],
)
def test_token_ids_are_the_same_where_the_base_is(one: LM, other: LM, same: bool) -> None:
    assert same_tokens(one, other) is same


INNER = """
lmprog: 1
name: inner
inputs: {q: str}
outputs: {a: "${{ steps.s.a }}"}
lms: {theirs: {model: openai/x, api_base: "${{ env.SOME_BASE }}", api_key: "${{ env.SOME_KEY }}"}}
modules: {m: {lm: theirs, inputs: {q: str}, outputs: {a: str}, instructions: Say it.}}
steps: {s: {module: m, with: {q: "${{ inputs.q }}"}}}
"""
OUTER = """
lmprog: 1
name: outer
inputs: {q: str}
outputs: {a: "${{ steps.t.a }}"}
lms:
  ours: {model: openai/x, api_base: "${{ env.SOME_BASE }}", api_key: "${{ env.SOME_KEY }}"}
modules: {m: {lm: ours, inputs: {q: str}, outputs: {a: str}, instructions: Say it.}}
steps:
  s: {module: m, with: {q: "${{ inputs.q }}"}}
  t: {program: inner.yaml, with: {q: "${{ steps.s.a }}"}}
"""


class Echo:
    def __init__(self) -> None:
        self.asked = 0

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        return Completion("a")


def test_a_program_within_another_asks_the_same_lm_whatever_file_declares_it(tmp_path: Path) -> None:
    """An address from the environment stands at another place in each file, and is the same address."""
    (tmp_path / "inner.yaml").write_text(INNER)
    (tmp_path / "outer.yaml").write_text(OUTER)
    echo = Echo()
    program = lmprog.load(tmp_path / "outer.yaml", lms={"ours": echo})
    inner = next(step.action.plan for step in program.plan.steps if isinstance(step.action, ProgramCall))
    assert twin(inner.lms["theirs"], program.plan.lms) == "ours"
    assert program(q="a").outputs == {"a": "a"} and echo.asked == 2


def compiled(tmp_path: Path, name: str, lm: str) -> Plan:
    (tmp_path / name).write_text(INNER.replace('{model: openai/x, api_base: "${{ env.SOME_BASE }}"', "{" + lm))
    return lmprog.load(tmp_path / name, lms={"theirs": Echo()}).plan


@pytest.mark.parametrize(
    "lm", ["model: openai/y", "model: openai/x, api_base: 'http://127.0.0.1:1'", "model: openai/x, params: {top_p: 1}"]
)
def test_versions_that_ask_another_lm_are_no_program_tuned(tmp_path: Path, lm: str) -> None:
    before, after = compiled(tmp_path, "before.yaml", "model: openai/x"), compiled(tmp_path, "after.yaml", lm)
    with pytest.raises(UsageError, match=r"differs between before\.yaml and after\.yaml in more than its words"):
        tuned_modules(before, after)


def test_versions_may_handle_an_lm_in_other_ways(tmp_path: Path) -> None:
    before = compiled(tmp_path, "before.yaml", "model: openai/x")
    after = compiled(
        tmp_path, "after.yaml", "model: openai/x, limits: {concurrency: 2}, cache: true, price: {input: 1, output: 1}"
    )
    with pytest.raises(UsageError, match=r"no module of after\.yaml has other words"):
        tuned_modules(before, after)
