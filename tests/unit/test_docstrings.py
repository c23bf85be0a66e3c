"""Docstrings are sentences that a reader understands without the name above them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from tests.unit.sources import ROOT, trees

TAILS = {
    *("What", "Of", "Those", "Whether", "Who", "How", "Where", "That", "Which", "Why", "One", "As", "From", "By"),
    *("For", "Each", "All", "Its", "It", "Such", "When", "None", "Told", "Asked", "Also", "Laid"),
}
"""First words of a docstring that only goes on from the name of what it describes."""
NOUNS = {"The", "A", "An"}
"""First words that begin a noun, where a function wants a verb."""


@cache
def docstrings() -> list[tuple[str, str, bool]]:
    """Return the place and first word of each docstring, and whether it describes a function."""
    found = []
    for file, tree in trees().items():
        for node in ast.walk(tree):
            for text in attributes(node):
                found.append((f"{file.relative_to(ROOT)}: {text[:40]}", text.split()[0].rstrip(",:;"), False))
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                continue
            text = ast.get_docstring(node, clean=False)
            if not text:
                continue
            name = getattr(node, "name", "")
            decorators = " ".join(map(ast.unparse, getattr(node, "decorator_list", ())))
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "property" not in decorators
            found.append((f"{file.relative_to(ROOT)}:{name}", text.split()[0].rstrip(",:;"), is_function))
    return found


def attributes(node: ast.AST) -> Iterator[str]:
    """Yield the strings that stand below the assignments in a body."""
    body = getattr(node, "body", None)
    for before, after in pairwise(body if isinstance(body, list) else []):
        match before, after:
            case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str() as text)):
                yield text


def test_no_docstring_is_the_tail_of_a_sentence() -> None:
    assert not [f"{place}: {word}" for place, word, _ in docstrings() if word in TAILS]


def test_the_docstring_of_a_function_begins_with_a_verb() -> None:
    assert not [f"{place}: {word}" for place, word, is_function in docstrings() if is_function and word in NOUNS]
