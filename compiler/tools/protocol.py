"""The texts of tool use for an LM whose API has none: the tools' description in the prompt, and results as a message."""

from __future__ import annotations

import json
from collections.abc import Iterable

from lmprog.compiler.plan import Field, Tool
from lmprog.compiler.types.lattice import Enum, ListOf, Object, Optional, Type


def describe(tools: Iterable[Tool]) -> str:
    """Return the description of the tools for the system message, the same for every row."""
    lines = [
        "You can call tools before you reply. To call one, write only this, and wait for its result:",
        '<call>{"tool": "name", "arguments": {"name": "value"}}</call>',
        "When you know enough, reply without a call.",
        "The tools:",
        *(f"- {signature(tool)}" for tool in tools),
    ]
    return "\n".join(lines)


def signature(tool: Tool) -> str:
    """Return a tool's signature and summary in one line, as `find(query: str, k?: int): finds pages`."""
    parameters = [_parameter(name, field) for name, field in tool.parameters.items()]
    about = f": {summary(tool)}" if summary(tool) else ""
    return f"{tool.id}({', '.join([*parameters, '...'] if tool.open else parameters)}){about}"


def summary(tool: Tool) -> str:
    """Return the first paragraph of a tool's description, in one line."""
    return " ".join((tool.about or "").strip().split("\n\n")[0].split())


def shown(results: Iterable[tuple[str, str, bool]]) -> str:
    """Return the text of the message that gives an agent its tool results, each as (tool, text, failed)."""
    parts = []
    for name, text, failed in results:
        tag = "error" if failed else "result"
        # A text that holds the end of its own section gets a backslash there.
        inner = text.replace(f"</{tag}>", f"<\\/{tag}>")
        parts.append(f'<{tag} tool="{name}">{inner}</{tag}>')
    return "\n".join(parts)


def _parameter(name: str, field: Field) -> str:
    optional = "?" if field.has_default or isinstance(field.type, Optional) else ""
    kind = field.type.inner if isinstance(field.type, Optional) else field.type
    about = f" ({field.about.strip().rstrip('.')})" if field.about else ""
    return f"{name}{optional}: {_kind(kind)}{about}"


def _kind(kind: Type) -> str:
    """Return a type with all its values and fields, as the LM needs them."""
    if isinstance(kind, Enum):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in kind.values)
    if isinstance(kind, ListOf):
        return f"list[{_kind(kind.item)}]"
    if isinstance(kind, Object):
        return "{" + ", ".join(f"{name}: {_kind(inner)}" for name, inner in kind.fields) + "}"
    if isinstance(kind, Optional):
        return f"{_kind(kind.inner)} | null"
    return str(kind).replace("unknown", "any")
