"""Guards: the optional values that are certainly present where a condition holds, or where it does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

from lmprog.compiler.expressions.parser import CONSTANTS, ExpressionError, dotted, parse

Names = frozenset[tuple[str, ...]]


def guards(test: ast.AST, truth: bool) -> Names:
    """Return the names, as paths such as `("inputs", "x")`, that are certainly not null where the condition `test` has
    the value `truth`; an empty set where it says nothing of any.
    """
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return guards(test.operand, not truth)
    if isinstance(test, ast.BoolOp):
        if isinstance(test.op, ast.And) is truth:
            return frozenset().union(*(guards(value, truth) for value in test.values))
        return frozenset.intersection(*(guards(value, truth) for value in test.values))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        op, left, right = test.ops[0], test.left, test.comparators[0]
        if _is_null(left):
            left, right = right, left
        name = dotted(left)
        if name and _is_null(right):
            absent = isinstance(op, ast.Eq | ast.Is)
            return frozenset({name}) if absent is not truth else frozenset()
        if name and truth and isinstance(op, ast.Eq) and isinstance(right, ast.Constant):
            return frozenset({name})
        return frozenset()
    name = dotted(test)
    return frozenset({name}) if name and truth else frozenset()


def _is_null(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    return isinstance(node, ast.Name) and CONSTANTS.get(node.id, 0) is None


@lru_cache(maxsize=65536)
def conjuncts(text: str) -> frozenset[str]:
    """Return the parts of the condition `text` that are joined by `and`, each written in one way, so that equal parts are
    equal texts; the text itself where it is no expression."""
    try:
        pending: list[ast.expr] = [parse(text)]
    except ExpressionError:
        return frozenset({text})
    found: set[str] = set()
    while pending:
        part = pending.pop()
        if isinstance(part, ast.BoolOp) and isinstance(part.op, ast.And):
            pending += part.values
        else:
            found.add(ast.unparse(part))
    return frozenset(found)


def subsets(parts: frozenset[str]) -> Iterator[frozenset[str]]:
    """Yield the subsets of the conditions `parts`, of which each holds where all of `parts` do, the empty set left out.

    Of up to six parts they are all subsets, by size; of more, each part alone, then all together.
    """
    sizes = range(1, len(parts) + 1) if len(parts) <= 6 else (1, len(parts))
    for size in sizes:
        yield from map(frozenset, combinations(sorted(parts), size))
