"""What a condition tells about optional values: which are certainly there where it holds, or where it does not."""

from __future__ import annotations

import ast

from lmprog.compiler.expression_parser import CONSTANTS, dotted

Names = frozenset[tuple[str, ...]]


def guards(test: ast.AST, truth: bool) -> Names:
    """The names that are certainly not null where `test` came out as `truth`."""
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
