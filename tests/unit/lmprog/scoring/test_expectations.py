"""Checks of tests against values: when each holds, and the line that says what was wanted and what came."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.compiler.expressions.compiled import parsed
from lmprog.compiler.optimizing.language import CHECKS
from lmprog.compiler.spec_tests import Check, ExampleTest, exact
from lmprog.compiler.types.samples import samples
from lmprog.scoring.expectations import differences, equal, untrue

TYPES = ["str", "int", "float", "bool", "json", "list[str]", "list[list[int]]", "str?", "{a: int, b: str?}"]
WANTED: dict[str, list[Any]] = {
    "equals": ["a", 3, 2.5, True, ["a"], {"a": 1}],
    "within": [0.5],
    "contains": ["a", ["a", "b"], 3, [[1]]],
    "excludes": ["a", ["a", "b"], 3, [[1]]],
    "regex": ["^a", "a(b"],
    "one_of": [["a", "b"], [1, 2.5], [True], [None]],
    "at_least": [1],
    "at_most": [2],
    "partial": [{"a": 1}, {"a": {"at_least": 1}}, {"b": {"contains": "x"}}],
}


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("a", "a", True),
        ("a", "a ", False),
        (1, 1.0, True),
        (0.3, 0.1 + 0.2, True),
        (0.3, 0.3001, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        ("1", 1, False),
        ([1, 0.3], [1, 0.1 + 0.2], True),
        ([1], [1, 2], False),
        ([1, 2], [2, 1], False),
        ({"a": [True]}, {"a": [True]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_equality(expected: Any, found: Any, same: bool) -> None:
    assert equal(expected, found) is same


def found_of(value: Any, *checks: Check) -> list[str]:
    return differences({"x": checks}, {"x": value})


def test_only_what_is_expected_is_compared() -> None:
    one = (Check("equals", 1),)
    assert differences({"a": one}, {"a": 1, "b": 2}) == []
    assert differences({"a": one, "b": (Check("equals", "x"),)}, {"a": 2}) == [
        "a: expected 1, got 2",
        "b: expected 'x', got None",
    ]
    assert found_of("", Check("equals", "x" * 300))[0].endswith("..., got ''")


@pytest.mark.parametrize(
    ("check", "right", "wrong", "said"),
    [
        (Check("equals", 12.5, within=0.5), 13.0, 13.1, "12.5 within 0.5, got 13.1"),
        (Check("equals", 0.3, within=0.1), 0.2, True, "0.3 within 0.1, got True"),
        (Check("contains", ["refund"]), "a refund", "a Refund", "'refund' in it, got 'a Refund'"),
        (Check("contains", ["a", "b"]), ["b", "a"], ["a"], "'a', 'b' in it, got ['a']"),
        (Check("contains", [[1]]), [[1], [2]], [[2]], "[1] in it, got [[2]]"),
        (Check("excludes", ["a", "b"]), "c", "cb", "no 'a' and no 'b' in it, got 'cb'"),
        (Check("excludes", ["a"]), ["ab"], ["a"], "no 'a' in it, got ['a']"),
        (Check("excludes", ["a"]), "", None, "no 'a' in it, got None"),
        (Check("regex", "(?i)^re"), "Refund", " refund", "a text that matches (?i)^re, got ' refund'"),
        (Check("one_of", [1, "a"]), 1.0, True, "one of 1, 'a', got True"),
        (Check("at_least", 2), 2, 1.9, "at least 2, got 1.9"),
        (Check("at_most", 2), 2.0, "2", "at most 2, got '2'"),
    ],
)
def test_each_check(check: Check, right: Any, wrong: Any, said: str) -> None:
    assert found_of(right, check) == []
    assert found_of(wrong, check) == [f"x: expected {said}"]


def test_partial_objects_name_the_field() -> None:
    inner = Check("partial", {"city": (Check("regex", "^B"),), "size": (Check("at_least", 1), Check("at_most", 3))})
    check = Check("partial", {"place": (inner,)})
    assert found_of({"place": {"city": "Bonn", "size": 2, "more": 1}, "other": 1}, check) == []
    assert found_of({"place": {"city": "Ulm", "size": 5}}, check) == [
        "x.place.city: expected a text that matches ^B, got 'Ulm'",
        "x.place.size: expected at most 3, got 5",
    ]
    assert found_of({"place": "Bonn"}, check) == ["x.place: expected an object with city, size, got 'Bonn'"]
    assert found_of({}, check) == ["x.place: expected an object with city, size, got None"]


def test_asserts_show_what_they_read() -> None:
    scope = {"inputs": {"n": 2}, "outputs": {"x": "abc"}, "trace": {"calls": 3}, "vars": {}}
    assert untrue([parsed("len(outputs.x) > inputs.n")], scope) == []
    assert untrue([parsed("len(outputs.x) < inputs.n"), parsed("trace.calls < 3")], scope) == [
        "assert len(outputs.x) < inputs.n: not true, where inputs.n is 2, outputs.x is 'abc'",
        "assert trace.calls < 3: not true, where trace.calls is 3",
    ]
    assert untrue([parsed("int(outputs.x) > 1")], scope)[0].startswith("assert int(outputs.x) > 1: ")


def test_the_row_of_a_metric_has_what_is_expected_exactly() -> None:
    expect = {"a": (Check("equals", 1),), "b": (Check("equals", 1, within=0.5),), "c": (Check("contains", ["x"]),)}
    assert exact(expect) == {"a": 1}
    assert ExampleTest("t", {"text": "x"}, expect).row == {"text": "x", "a": 1}


@pytest.mark.slow
def test_a_test_that_is_accepted_can_be_run(tmp_path: Path) -> None:
    """Every check is tried at an output of every type: it is refused, or it gives an answer for each value of the type."""
    assert WANTED.keys() == CHECKS.keys.keys()
    base = "lmprog: 1\nlms: {m: {model: openai/x}}\nmodules: {a: {inputs: {text: str}, outputs: {x: TYPE}}}\n"
    accepted, seen = 0, set()
    for kind, key in product(TYPES, WANTED):
        for wanted in WANTED[key]:
            checks = {key: wanted, **({"equals": 3} if key == "within" else {})}
            test = {"tests": {"t": {"inputs": {"text": "a"}, "expect": {"x": checks}}}}
            path = tmp_path / "program.yaml"
            path.write_text(base.replace("TYPE", f'"{kind}"' if kind[0] != "{" else kind) + yaml.safe_dump(test))
            compilation = compile_file(path)
            if compilation.plan is None:
                assert compilation.findings
                continue
            accepted += 1
            (example,) = compilation.plan.tests
            assert isinstance(example, ExampleTest)
            for value in [*samples(compilation.plan.output_types["x"]), None]:
                lines = differences(example.expect, {"x": value})
                seen.add((key, not lines))
                assert all(line.startswith("x") and ", got " in line for line in lines)
    assert accepted > 40
    assert {key for key, _ in seen} == WANTED.keys()
    assert {held for _, held in seen} == {True, False}
