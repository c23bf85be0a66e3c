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
    """Return an agent's tools by the names under which its LM calls them, in their order.

    The name is the tool's id, or that of a tool of an MCP server its name there, with the server's id before it where
    another tool has the same. Characters that APIs refuse become `_`, names end at MAX_NAME (64) characters, and equal
    ones get a number (`_2`).
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
    """Return a text as a name of a tool that all APIs take: other characters become `_`, and it ends at MAX_NAME."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:MAX_NAME]


def describe(tools: Iterable[Tool]) -> str:
    """Return the text for the system message that says how to call the tools in words, and lists them."""
    lines = [
        "You can call tools before you reply. To call one, write only this, and wait for its result:",
        '<call>{"tool": "name", "arguments": {"name": "value"}}</call>',
        "When you know enough, reply without a call.",
        "The tools:",
        *(f"- {signature(tool, name)}" for name, tool in named(tools).items()),
    ]
    return "\n".join(lines)


def signature(tool: Tool, name: str) -> str:
    """Return a tool's signature, under the name `name`, and its summary in one line: `find(query: str, k?: int): finds
    pages`. A parameter with `?` may be left out; `...` stands for parameters that are not known."""
    parameters = [_parameter(name, field) for name, field in tool.parameters.items()]
    about = f": {summary(tool)}" if summary(tool) else ""
    return f"{name}({', '.join([*parameters, '...'] if tool.open else parameters)}){about}"


def summary(tool: Tool) -> str:
    """Return the first paragraph of a tool's description, in one line; an empty text where it has none."""
    return " ".join((tool.about or "").strip().split("\n\n")[0].split())


def shown(results: Iterable[tuple[str, str, bool]]) -> str:
    """Return the text of the message that gives an LM its tool results, each between the tags `result` or `error`; the
    end of its own tag within a result gets a backslash.

    Each result is the name of the tool, the text, and True where the call failed.
    """
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
    """Return a parameter with its type and description, in one line; `?` behind the name says that it may be left out."""
    optional = "?" if field.has_default or isinstance(field.type, Optional) else ""
    kind = field.type.inner if isinstance(field.type, Optional) else field.type
    about = f" ({' '.join(field.about.split()).rstrip('.')})" if field.about else ""
    return f"{name}{optional}: {_kind(kind)}{about}"


def _kind(kind: Type) -> str:
    """Return a type in words for an LM, with all values of an enum and all fields of an object."""
    if isinstance(kind, Enum):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in kind.values)
    if isinstance(kind, ListOf):
        return f"list[{_kind(kind.item)}]"
    if isinstance(kind, Object):
        return "{" + ", ".join(f"{name}: {_kind(inner)}" for name, inner in kind.fields) + "}"
    if isinstance(kind, Optional):
        return f"{_kind(kind.inner)} | null"
    return str(kind).replace("unknown", "any")
