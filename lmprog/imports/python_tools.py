"""The function behind a prompt flow's Python tool, found by parsing its file, which is not imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmprog.errors import UsageError
from lmprog.imports.files import read_text

_TYPES = {"str": "str", "int": "int", "float": "float", "bool": "bool", "dict": "json", "list": "list[json]"}


@dataclass(frozen=True)
class ToolFunction:
    """The signature of the function behind a Python tool: its name, the types of its arguments (`takes`, without those that
    have no annotation the language has a type for) and of its result (`returns`, None: likewise), as the language writes
    them. `needs_promptflow` is True where its file imports promptflow.
    """

    name: str
    returns: str | None
    needs_promptflow: bool
    takes: Mapping[str, str] = field(default_factory=dict)


def tool_function(path: Path | None) -> ToolFunction | None:
    """Return the signature of the first function, async or not, marked `@tool` at the top level of a Python file; None
    where `path` is None, where the file cannot be read or is no valid Python, and where it has no such function.
    """
    if path is None:
        return None
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError, UsageError):  # Python's parser raises each
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_is_tool, node.decorator_list)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            kinds = {argument.arg: _taken(argument.annotation) for argument in arguments}
            takes = {name: kind for name, kind in kinds.items() if kind is not None}
            return ToolFunction(node.name, _type(node.returns), any(map(_imports_promptflow, ast.walk(tree))), takes)
    return None


def _is_tool(node: ast.expr) -> bool:
    """Return whether a decorator is named `tool`: `@tool`, `@tool(...)` or `@promptflow.tool`."""
    called = node.func if isinstance(node, ast.Call) else node
    return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")) == "tool"


def _type(node: ast.expr | None) -> str | None:
    """Return the type of the language for an annotation (None: there is none), whatever stands in its brackets; None where
    the language has none.
    """
    base = node.value if isinstance(node, ast.Subscript) else node
    return _TYPES.get(base.id.lower()) if isinstance(base, ast.Name) else None


def _taken(node: ast.expr | None) -> str | None:
    """Return the type of the language for an argument's annotation (None: there is none), of a list with the type of its
    items where that is str, int or float; None where the language has none.
    """
    found = _type(node)
    if found == "list[json]" and isinstance(node, ast.Subscript) and _type(node.slice) in ("str", "int", "float"):
        return f"list[{_type(node.slice)}]"
    return found


def _imports_promptflow(node: ast.AST) -> bool:
    """Return whether a node of a Python tree imports promptflow or a part of it."""
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] == "promptflow" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "promptflow"
