"""The check of a tool call's arguments against the declared types and the JSON schema of the tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.compiler.plan import Tool
from lmprog.compiler.tools.schema_fit import broken
from lmprog.compiler.types.lattice import mismatch


def wrong_arguments(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """Return a sentence for the LM on the first argument (by name) of a tool call that is unknown, or missing, or does
    not fit its type or its JSON schema (`against_schemas`); None where all fit."""
    for name in arguments:
        if name not in tool.parameters and not tool.open:
            return f"{tool.id} takes no argument {name!r}; it takes {', '.join(tool.parameters) or 'none'}"
    for name, field in tool.parameters.items():
        if name in arguments:
            if wrong := mismatch(arguments[name], field.type):
                return f"the argument {name!r} of {tool.id}: {wrong}"
        elif not field.has_default and mismatch(None, field.type):
            return f"{tool.id} lacks the argument {name!r}"
    return against_schemas(tool, arguments)


def against_schemas(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """Return a sentence on the first argument (by name) that breaks a bound, format or the like of the tool's JSON schema;
    None where none does. A schema that is itself wrong refuses nothing.
    """
    for name, field in tool.parameters.items():
        if name not in arguments or not field.schema:
            continue
        if wrong := broken(arguments[name], field.schema):
            return f"the argument {name!r} of {tool.id}: {wrong}"
    return None
