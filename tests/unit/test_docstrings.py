"""Docstrings are sentences that a reader understands without the name above them."""

from __future__ import annotations

import ast
import re
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


@cache
def public_functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Return the place, the tree and the docstring of each public function and method, but for the commands of the CLI,
    whose docstrings are their help texts."""
    found = []

    def visit(file: str, body: list[ast.stmt], around: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(file, node.body, f"{around}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                text = ast.get_docstring(node)
                if text and "command(" not in " ".join(map(ast.unparse, node.decorator_list)):
                    found.append((f"{file}:{around}{node.name}", node, text))

    for file, tree in trees().items():
        visit(str(file.relative_to(ROOT)), tree.body, "")
    return found


def may_be_none(hint: ast.expr | None) -> bool:
    """Return whether a hint is a union of which None is a part."""
    if not isinstance(hint, ast.BinOp):
        return False
    parts = [hint.left, hint.right]
    return any((isinstance(part, ast.Constant) and part.value is None) or may_be_none(part) for part in parts)


def test_a_docstring_says_of_each_argument_and_result_what_none_means() -> None:
    silent = []
    for place, node, text in public_functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        hints = [argument.annotation for argument in arguments] + [node.returns]
        if len(re.findall(r"\bNone\b", text)) < sum(map(may_be_none, hints)):
            silent.append(place)
    assert not silent


def raised_in(node: ast.AST) -> Iterator[str]:
    """Yield the names of the exceptions that the body of a function raises itself, outside of a `try` that has handlers."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(part, ast.Raise) and part.exc is not None:
            error = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
            if isinstance(error, ast.Name) and error.id[0].isupper():
                yield error.id
        if isinstance(part, ast.Try) and part.handlers:
            for later in (*part.handlers, *part.orelse, *part.finalbody):
                yield from raised_in(later)
        else:
            yield from raised_in(part)


def test_a_docstring_names_each_exception_that_its_function_raises() -> None:
    silent = []
    for place, node, text in public_functions():
        left_out = {error for error in raised_in(node) if error not in text} - {"NotImplementedError", "AssertionError"}
        silent += [f"{place}: {error}" for error in sorted(left_out)]
    assert not silent


def test_the_number_behind_a_constant_in_a_docstring_is_that_of_the_constant() -> None:
    numbers: dict[str, set[float]] = {}
    for tree in trees().values():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=int() | float() as number)):
                    numbers.setdefault(name, set()).add(float(number))
    said = [
        (place, name, float(number.replace(",", "")))
        for place, _, text in public_functions()
        for name, number in re.findall(r"\b([A-Z][A-Z_]{2,})\s+\((\d[\d,.]*)\)", text)
    ]
    assert len(said) > 15
    assert not [each for each in said if each[2] not in numbers.get(each[1], {each[2]})]


def test_the_docstrings_of_a_family_of_checks_name_its_findings() -> None:
    for file, tree in trees().items():
        if file.parent != ROOT / "compiler" / "checks":
            continue
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("report.add")
        ]
        added = {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}
        place = str(file.relative_to(ROOT))
        said = {
            code for at, _, text in public_functions() if at.startswith(place) for code in re.findall(r"LMP\d{3}", text)
        }
        assert added <= said, place
