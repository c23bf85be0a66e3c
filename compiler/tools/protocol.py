"""The texts of tool use for an LM whose API has none: the tools' description in the prompt, and results as a message."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import count
from typing import Any

from lmprog.compiler.plan import Field, Tool
from lmprog.compiler.types.lattice import Enum, ListOf, Object, Optional, Type

MAX_NAME = 64
"""The most characters of a tool's name that the APIs of LMs take."""


def named(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Return an agent's tools by the names under which its LM calls them.

    A tool of an MCP server has its name there; where another tool has it too, the server's id stands before it.
    """
    listed = list(tools)
    short = {tool.id: _as_name(tool.id.partition(".")[2] or tool.id) for tool in listed}
    counts = Counter(short.values())
    found: dict[str, Tool] = {}
    for tool in listed:
        name = short[tool.id] if counts[short[tool.id]] == 1 or "." not in tool.id else _as_name(tool.id)
        taken = (f"{name[: MAX_NAME - 3]}_{number}" for number in count(2))
        found[name if name not in found else next(other for other in taken if other not in found)] = tool
    return found


def _as_name(text: str) -> str:
    """Return a text with the characters alone that names of tools may have in all APIs."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:MAX_NAME]


def describe(tools: Iterable[Tool]) -> str:
    """Return the description of the tools for the system message, the same for every row."""
    lines = [
        "You can call tools before you reply. To call one, write only this, and wait for its result:",
        '<call>{"tool": "name", "arguments": {"name": "value"}}</call>',
        "When you know enough, reply without a call.",
        "The tools:",
        *(f"- {signature(tool, name)}" for name, tool in named(tools).items()),
    ]
    return "\n".join(lines)


def signature(tool: Tool, name: str) -> str:
    """Return a tool's signature and summary in one line, as `find(query: str, k?: int): finds pages`."""
    parameters = [_parameter(name, field) for name, field in tool.parameters.items()]
    about = f": {summary(tool)}" if summary(tool) else ""
    return f"{name}({', '.join([*parameters, '...'] if tool.open else parameters)}){about}"


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


def native_results(results: Iterable[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """Return the messages that give an agent its tool results in the fields of its API, in the order of the calls:
    `role` (`tool`), `tool_call_id` and `content`, which begins with `error: ` for a failed call.

    Each result is the id of the call, the text, and True where the call failed.
    """
    return [
        {"role": "tool", "tool_call_id": id, "content": f"error: {text}" if failed else text}
        for id, text, failed in results
    ]


def _parameter(name: str, field: Field) -> str:
    optional = "?" if field.has_default or isinstance(field.type, Optional) else ""
    kind = field.type.inner if isinstance(field.type, Optional) else field.type
    about = f" ({' '.join(field.about.split()).rstrip('.')})" if field.about else ""
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
