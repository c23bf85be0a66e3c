"""An expression that passes the checker has, for all values of the declared types, a value of the type that it got."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lmprog.compiler.expressions.compiled import EvaluationError, parsed
from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.expressions.parser import ExpressionError, parse
from lmprog.compiler.expressions.types import Typer
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, JSON, STR, Enum, ListOf, Object, Optional, Type, mismatch

INPUTS: dict[str, Type] = {
    "s": STR,
    "i": INT,
    "f": FLOAT,
    "b": BOOL,
    "j": JSON,
    "e": Enum(("x", "y")),
    "ls": ListOf(STR),
    "li": ListOf(INT),
    "los": ListOf(Optional(STR)),
    "lls": ListOf(ListOf(STR)),
    "loli": ListOf(Optional(ListOf(INT))),
    "os": Optional(STR),
    "oi": Optional(INT),
    "o": Object((("a", STR), ("n", INT), ("m", Optional(STR)))),
    "oo": Optional(Object((("a", STR),))),
}
SCOPE = Scope({"inputs": Object(tuple(INPUTS.items()))})
VALUE_ERRORS = (IndexError, ZeroDivisionError, ValueError, OverflowError)
"""What may depend on the values, and is no error of names or types."""


def value(kind: Type, rng: random.Random) -> Any:
    if isinstance(kind, Optional):
        return None if rng.random() < 0.4 else value(kind.inner, rng)
    if isinstance(kind, ListOf):
        return [value(kind.item, rng) for _ in range(rng.randrange(4))]
    if isinstance(kind, Object):
        return {name: value(part, rng) for name, part in kind.fields}
    if isinstance(kind, Enum):
        return rng.choice(kind.values)
    return {
        "str": rng.choice(["", "x", "a b", "7"]),
        "int": rng.choice([-1, 0, 3]),
        "float": rng.choice([0.5, -2.0]),
        "bool": rng.random() < 0.5,
        "json": rng.choice([None, 1, "x", [1], {"a": 1}]),
    }[str(kind)]


def expression(rng: random.Random, depth: int = 0) -> str:
    if depth > 3 or rng.random() < 0.3:
        fields = ["inputs.o.a", "inputs.o.n", "inputs.o.m", "inputs.oo.a", "inputs.los[0]", "inputs.ls[1]"]
        literals = ["1", "'x'", "'y'", "0.5", "true", "null", "['x', 'z']", "{'a': 'q'}"]
        return rng.choice([f"inputs.{name}" for name in INPUTS] * 2 + fields + literals)

    def inner() -> str:
        return expression(rng, depth + 1)

    kind = rng.randrange(9)
    if kind == 0:
        return f"({inner()} {rng.choice(['+', '-', '*', '/', '//', '%'])} {inner()})"
    if kind == 1:
        return f"({inner()} {rng.choice(['==', '!=', '<', '>=', 'in', 'not in'])} {inner()})"
    if kind == 2:
        return f"({inner()} {rng.choice(['and', 'or'])} {inner()})"
    if kind == 3:
        return f"({inner()} if {inner()} else {inner()})"
    if kind == 4:
        name = rng.choice([name for name, kind in INPUTS.items() if isinstance(kind, Optional)])
        return f"(inputs.{name} if inputs.{name} {rng.choice(['!=', 'is not', '=='])} null else {inner()})"
    if kind == 5:
        return f"[{inner()}, {inner()}]"
    if kind == 6:
        return f"(not {inner()})"
    name = rng.choice(list(FUNCTIONS))
    function = FUNCTIONS[name]
    count = rng.randint(function.least, function.most or function.least + 1)
    return f"{name}({', '.join(inner() for _ in range(count))})"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_soundness(seed: int) -> None:
    rng = random.Random(seed)
    passed = 0
    for _ in range(4000):
        text = expression(rng)
        typer = Typer(SCOPE)
        kind = typer.type(parse(text))
        if any(problem.code != "LMP206" for problem in typer.problems):
            continue
        passed += 1
        made = parsed(text, kind)
        for _ in range(4):
            scope = {"inputs": {name: value(part, rng) for name, part in INPUTS.items()}}
            try:
                result = made.evaluate(scope)
            except EvaluationError as error:
                assert isinstance(error.__cause__, VALUE_ERRORS), (text, scope, error)
                continue
            assert mismatch(result, kind) is None, (text, str(kind), scope, result)
    assert passed > 300


@pytest.mark.parametrize(
    ("text", "offset", "fix"),
    [
        ("a && b", 2, "write `and`"),
        ("'&&' == a || b", 10, "write `or`"),
        ("'?' <> a", 4, "write `!=`"),
        ("a === b", 2, "write `==`"),
        ("a !== b", 2, "write `!=`"),
        ("a = b", 2, "write `==`"),
        ("a := b", 2, "write `==`"),
        ("a => b", 2, "write `>=`"),
        ("!a", 0, "write `not`"),
        ("NOT a", 0, "write `not`"),
        ("a AND b", 2, "write `and`"),
        ("a eq b", 2, "write `==`"),
        ("a ? b : c", 2, "write `a if condition else b`"),
        ("a == \u201cb\u201d", 5, "write straight quotes"),
        ("${{ a }} and b", 0, "write `${{ }}` around the whole expression, or no marks"),
        ("a == 'b", 5, "write ' at the end of the text"),
        ("len(a > 3", 3, "write `)`"),
        ("a[0 == '('", 1, "write `]`"),
    ],
)
def test_a_slip_from_another_language_has_its_place_and_its_fix(text: str, offset: int, fix: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert (caught.value.offset, caught.value.fix) == (offset, fix)


def test_lists_of_lists_are_flattened_and_nothing_else() -> None:
    flatten = FUNCTIONS["flatten"]
    assert flatten.call([["a"], None, ["b", "c"]]) == ["a", "b", "c"]
    assert flatten.typing([ListOf(Optional(ListOf(INT)))]) == ListOf(INT)
    assert flatten.typing([ListOf(STR)]) == "it takes a list of lists, not list[str]"
    assert flatten.typing([STR]) == "it takes a list of lists, not str"


def test_a_list_is_a_subset_of_another_of_like_items() -> None:
    subset = FUNCTIONS["subset"]
    assert subset.call(["a", "a"], ["b", "a"]) and subset.call([], []) and not subset.call(["a", "c"], ["a"])
    assert subset.typing([ListOf(STR), ListOf(Enum(("a",)))]) == subset.typing([ListOf(JSON), ListOf(INT)]) == BOOL
    assert subset.typing([STR, ListOf(STR)]) == "it takes two lists, not str"
    assert subset.typing([ListOf(INT), ListOf(STR)]) == "a list[int] has nothing in common with a list[str]"


def test_a_field_is_plucked_from_each_object_and_from_nothing_else() -> None:
    pluck, named = FUNCTIONS["pluck"], Enum(("id",))
    hits = ListOf(Object((("id", STR), ("score", Optional(INT)))))
    assert pluck.call([{"id": "a"}, {}], "id") == ["a", None]
    with pytest.raises(ValueError, match="an item of the list is no object"):
        pluck.call([{"id": "a"}, None], "id")
    assert pluck.typing([hits, named]) == ListOf(STR)
    assert pluck.typing([hits, Enum(("score",))]) == ListOf(Optional(INT))
    wrong = "what is taken is the name of a field of {id: str, score: int?}, in quotes"
    assert pluck.typing([hits, Enum(("title",))]) == pluck.typing([hits, STR]) == wrong
    assert pluck.typing([STR, named]) == "it takes a list of objects, not str"
    assert str(pluck.typing([ListOf(Optional(Object((("id", STR),)))), named])).endswith("leaves out what is absent")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("join", [["a"] * 1001, "b" * 10_000]),
        ("replace", ["a" * 1001, "a", "b" * 10_000]),
        ("json", ["a" * 10_000_000]),
    ],
)
def test_no_function_makes_a_text_of_any_length(name: str, arguments: list) -> None:
    with pytest.raises(ValueError, match="longer than 10,000,000 characters"):
        FUNCTIONS[name].call(*arguments)


def test_round_counts_a_bounded_number_of_digits() -> None:
    with pytest.raises(EvaluationError, match="at most 1,000 digits"):
        parsed("round(5, -1000000000)").evaluate({})
    assert parsed("round(12345, -2)").evaluate({}) == 12300


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("inputs.a in [inputs.b]", []),
        ("inputs.a in [inputs.b, 'x']", []),
        ("inputs.a in ['x', 'zz']", ["LMP206"]),
        ("inputs.a in [inputs.b, 'zz']", ["LMP206"]),
        ("'zz' in [inputs.b]", ["LMP206"]),
    ],
)
def test_only_a_value_that_is_written_out_is_a_slip(text: str, found: list[str]) -> None:
    kinds = Object((("a", Enum(("x", "y"))), ("b", Enum(("x", "y", "z")))))
    typer = Typer(Scope({"inputs": kinds}))
    typer.type(parse(text))
    assert [problem.code for problem in typer.problems] == found
