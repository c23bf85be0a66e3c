"""Kinds of tools: one record for each key of a tool in a spec, of this package and of others.

A kind of another package is an entry point of the group `lmprog.tools` whose name is the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmprog.compiler.optimizing.language import PYTHON
from lmprog.compiler.plugins import PluginFailed, plugin, usable
from lmprog.compiler.shape import Anything, Choice, Either, ListOf, MapOf, Others, Record, Shape, Text
from lmprog.compiler.types.shapes import TYPE, TYPED

GROUP = "lmprog.tools"


@dataclass(frozen=True)
class ToolKind:
    """A kind of tool: what a spec writes under its key, and how it is called."""

    key: str
    make: str | Callable[..., Callable[..., Any]]
    """Function from `lmprog.compiler.plan.Tool` to an async function, or its place as `package.module:name`."""
    shape: Shape
    """The shape of the options under the key."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Parameters and their types, as a spec writes them; for kinds whose tools all take the same."""
    output: str = "json"
    """The type of the result, as a spec writes it."""
    about: str | None = None
    """The description that an agent is shown, where the spec gives none."""
    outside: bool = True
    """True if a result is text from outside, which may hold orders to an LM."""
    remote: bool = True
    """True if a call leaves this machine: a dry run makes none, and private values may not reach the tool."""
    effects: Literal["read", "write"] = "write"
    """The effects where the spec does not state them."""
    environment: bool = True
    """True if options may hold `${{ env.NAME }}`."""
    connections: bool = False
    """True if `make` takes the open connections of the program as its second argument."""


_HTTP = Record(
    {
        "url": Anything(about="The address; ${{ env.NAME }}, and {name} for an input in it."),
        "method": Choice(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), default="GET"),
        "headers": MapOf(Anything(), "header", free=True),
        "inputs": TYPED,
        "output": TYPE,
        "openapi": Text(about="An OpenAPI description (yaml or json)."),
        "operation": Text(about="The operationId in it."),
    },
    forms=(("url",), ("openapi", "operation")),
    about="A request: url, method, headers, inputs, output; or openapi and operation.",
)
_MCP = Record(
    {
        "command": Either(scalar=Text(), sequence=ListOf(Text()), about="Starts the server."),
        "url": Anything(about="Address of a running server."),
        "tool": Text(about="The tool's name on that server."),
        "schema": Text(about="A file with the tool's inputSchema, so that check can see its parameters."),
        "output": TYPE,
        "env": MapOf(Anything(), "variable", about="For the server that is started, beside PATH and HOME."),
        "headers": MapOf(Anything(), "header", free=True, about="Sent to the server at `url`."),
    },
    one_of=("command", "url"),
    only={"env": ("command",), "headers": ("url",)},
    required=("tool",),
    about="A tool of an MCP server.",
)
_SEARCH = Record(
    {
        "corpus": Either(
            scalar=Text(),
            mapping=Record(
                {
                    "hf": Text(about="A data set of the Hugging Face hub."),
                    "split": Text(about="Its split."),
                },
                required=("hf", "split"),
            ),
            about="A jsonl, csv or parquet file, or {hf, split}: a data set of the Hugging Face hub.",
        ),
        "text": Either(scalar=Text(), sequence=ListOf(Text(), 1), about="Columns that are searched."),
        "key": Text(about="The column that is returned."),
    },
    required=("corpus", "text", "key"),
    about="Built-in BM25 search over a file.",
)
BUILT_IN = {
    kind.key: kind
    for kind in (
        ToolKind(
            "python",
            "lmprog.tools.python:python_tool",
            PYTHON,
            outside=False,
            remote=False,
            effects="read",
            environment=False,
        ),
        ToolKind("http", "lmprog.tools.http:http_tool", _HTTP, connections=True),
        ToolKind("mcp", "lmprog.tools.mcp:mcp_tool", _MCP, connections=True),
        ToolKind(
            "search",
            "lmprog.tools.search:search_tool",
            _SEARCH,
            {"query": "str", "k": {"type": "int", "default": 10}},
            "list[str]",
            "Finds the k entries that share the most words with the query.",
            remote=False,
            effects="read",
            environment=False,
        ),
    )
}
"""The kinds of this package, by key."""


def registered(key: str) -> ToolKind | None:
    """Return the kind of a key, or None. Raise PluginFailed where the record of another package cannot be used."""
    return BUILT_IN.get(key) or plugin(GROUP, key, ToolKind, "key")


def kind_of(key: str) -> ToolKind:
    """Return the kind of a tool; one without a usable record, which has its finding, counts as remote and writing."""
    try:
        found = registered(key)
    except PluginFailed:
        found = None
    return found or ToolKind(key, "", Anything())


def _shape(key: str) -> Shape | None:
    found = registered(key)
    return found.shape if found is not None else None


OTHERS = Others(_shape, lambda: usable(GROUP, ToolKind, "key"))
"""The keys of tools that other packages add."""
