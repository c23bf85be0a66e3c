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
    """The signature of a tool's function: its name, the types of its arguments (`takes`) and of its result (`returns`,
    None: no type of the language). `needs_promptflow`: its file imports promptflow."""

    name: str
    returns: str | None
    needs_promptflow: bool
    takes: Mapping[str, str] = field(default_factory=dict)


def tool_function(path: Path | None) -> ToolFunction | None:
    """Return the signature of the function marked `@tool` in a file; None where there is no file (`path` None), no such
    function, or no valid Python."""
    if path is None:
        return None
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError, UsageError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_is_tool, node.decorator_list)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            kinds = {argument.arg: _taken(argument.annotation) for argument in arguments}
            takes = {name: kind for name, kind in kinds.items() if kind is not None}
            return ToolFunction(node.name, _type(node.returns), any(map(_imports_promptflow, ast.walk(tree))), takes)
    return None


def _is_tool(node: ast.expr) -> bool:
    """Return whether a decorator is `@tool`, `@tool(...)` or `@promptflow.tool`."""
    called = node.func if isinstance(node, ast.Call) else node
    return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")) == "tool"


def _type(node: ast.expr | None) -> str | None:
    base = node.value if isinstance(node, ast.Subscript) else node
    return _TYPES.get(base.id.lower()) if isinstance(base, ast.Name) else None


def _taken(node: ast.expr | None) -> str | None:
    """Return the type of an argument, with that of a list's items where it is a simple one."""
    found = _type(node)
    if found == "list[json]" and isinstance(node, ast.Subscript) and _type(node.slice) in ("str", "int", "float"):
        return f"list[{_type(node.slice)}]"
    return found


def _imports_promptflow(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] == "promptflow" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "promptflow"
