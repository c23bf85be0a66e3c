"""Kinds of tools: one record for each key of a tool in a spec, of this package and of others.

A kind of another package is an entry point of the group `lmprog.tools` whose name is the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lmprog.compiler.optimizing.language import PYTHON
from lmprog.compiler.plugins import PluginFailed, plugin, usable
from lmprog.compiler.shape import Anything, Choice, Either, Lazy, ListOf, MapOf, Others, Record, Shape, Text
from lmprog.compiler.types.shapes import TYPE, TYPED

GROUP = "lmprog.tools"
"""The group of entry points by which packages offer kinds of tools."""


@dataclass(frozen=True)
class ToolKind:
    """The record of a kind of tool: its `key` in a spec, the `shape` of the options below that key, and `make`, which
    makes the async function of a tool from its declaration (with `connections` also from the program's open
    connections).

    `inputs`, `output` and `about` are the parameters, result type and description of all tools of a kind without
    declarations of their own, `least` the least values of number parameters. The other fields are facts for checks:
    `outside` (results may hold orders to an LM), `remote` (a call leaves this machine), the usual `effects`, and
    `environment` (options may read `env`).
    """

    key: str
    make: str | Callable[..., Callable[..., Any]]
    """Function from `lmprog.compiler.plan.Tool` to an async function, or its place as `package.module:name`."""
    shape: Shape
    """The shape of the options under the key."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Parameters and their types, as a spec writes them; for kinds whose tools all take the same."""
    least: Mapping[str, float] = field(default_factory=dict)
    """The least values of parameters that are numbers; a call with a lower one fails."""
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
        "url": Anything(
            about="The address; ${{ env.NAME }}, and {name} for an input in it. With `openapi`: the server, where the "
            "description names none.",
            example='"https://api.example.com/orders/{order}"',
        ),
        "method": Choice(
            ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            about="The method of the request.",
            default="GET",
            example="POST",
        ),
        "headers": MapOf(
            Anything(),
            "header",
            free=True,
            about="Sent with each request; ${{ env.NAME }} for a secret.",
            default="none",
            example='{Authorization: "${{ env.SHOP_TOKEN }}"}',
        ),
        "inputs": replace(
            TYPED,
            about="Parameters with their types: those not in the address are the query, or the JSON body.",
            default="none",
            example="{order: str}",
        ),
        "output": Lazy(
            TYPE.shape,
            TYPE.name,
            about="The type that the body of the answer is read as.",
            default="json; with `openapi` what the description says",
            example="{state: str, days: int}",
        ),
        "openapi": Text(about="An OpenAPI description (yaml or json).", example="shop/openapi.yaml"),
        "operation": Text(about="The operationId in the description.", example="getOrder"),
    },
    forms=(("url",), ("openapi", "operation")),
    only={"url": ("url", "openapi")},
    about="A request: url, method, headers, inputs, output; or openapi and operation, with a url for the server's address.",
    example='{url: "https://api.example.com/orders/{order}", inputs: {order: str}, output: json}',
)
_MCP = Record(
    {
        "command": Either(
            scalar=Text(),
            sequence=ListOf(Text()),
            about="Starts the server, in the folder of the spec.",
            example="[python, shop/server.py]",
        ),
        "args": ListOf(
            Text(),
            about="Arguments of the command, as the configuration files of MCP clients have them.",
            default="none",
            example="[shop/server.py]",
        ),
        "url": Anything(about="Address of a running server.", example="https://tools.example.com/mcp"),
        "type": Choice(
            ("stdio", "http", "streamable-http"),
            about="As in configuration files of MCP clients; it must fit what stands beside it.",
            default="stdio with `command`, http with `url`",
            example="stdio",
        ),
        "tool": Text(
            about="One tool by its name on that server.",
            default="all tools of the server, as `<tool>.<name>`",
            example="find_order",
        ),
        "resource": Text(
            about="A resource in place of a tool, by its address; {name} in it is a parameter. It is read as text.",
            default="none",
            example='"orders://{order}"',
        ),
        "prompt": Text(
            about="A prompt in place of a tool, by its name. Its messages are the result.",
            default="none",
            example="complaint",
        ),
        "schema": Text(
            about="A file with the tool's inputSchema, or the server's list of tools, so that check can see their parameters.",
            default="the lock file that `lmprog tools` writes; without one the parameters are not checked before a call",
            example="shop/find_order.json",
        ),
        "output": Lazy(
            TYPE.shape,
            TYPE.name,
            about="The type that the answer is read as; beside `tool`, `resource` or `prompt`.",
            default="json; with a schema or a lock file the outputSchema there",
            example="str",
        ),
        "env": MapOf(
            Anything(),
            "variable",
            about="For the server that is started, beside PATH and HOME.",
            default="none",
            example='{SHOP_TOKEN: "${{ env.SHOP_TOKEN }}"}',
        ),
        "headers": MapOf(
            Anything(),
            "header",
            free=True,
            about="Sent to the server at `url`.",
            default="none",
            example='{Authorization: "${{ env.SHOP_TOKEN }}"}',
        ),
    },
    one_of=("command", "url"),
    only={"args": ("command",), "env": ("command",), "headers": ("url",)},
    about="An MCP server, as the configuration files of MCP clients name it: all of its tools, or one.",
    example="{command: python, args: [shop/server.py], tool: find_order, schema: shop/find_order.json}",
)
_SEARCH = Record(
    {
        "corpus": Either(
            scalar=Text(),
            mapping=Record(
                {
                    "hf": Text(about="A data set of the Hugging Face hub.", example="owner/name"),
                    "split": Text(about="Its split.", example="train"),
                },
                required=("hf", "split"),
            ),
            about="A jsonl, csv or parquet file, or {hf, split}: a data set of the Hugging Face hub.",
            example="shop/answers.jsonl",
        ),
        "text": Either(
            scalar=Text(),
            sequence=ListOf(Text(), 1),
            about="Columns that are searched.",
            example="[title, text]",
        ),
        "key": Text(about="The column that is returned.", example="title"),
        "columns": Either(
            sequence=ListOf(Text(), 1),
            mapping=MapOf(Lazy(TYPE.shape, TYPE.name), "column"),
            about="The columns that are returned, as an object for each entry: texts, or with their types.",
            example="[title, text]",
        ),
    },
    required=("corpus", "text"),
    one_of=("key", "columns"),
    about="Built-in BM25 search over a file: it takes `query` and `k`, and returns a list of keys or objects, best first.",
    example="{corpus: shop/answers.jsonl, text: [title, text], key: title}",
)
BUILT_IN = {
    kind.key: kind
    for kind in (
        ToolKind(
            "python",
            "lmprog.tools.python:python_tool",
            replace(PYTHON, example="./shop/tools.py:order_state"),
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
            output="list[str]",
            about="Finds the k entries that share the most words with the query.",
            least={"k": 1},
            remote=False,
            effects="read",
            environment=False,
        ),
    )
}
"""The kinds of this package, by key."""


def registered(key: str) -> ToolKind | None:
    """Return the record of the kind of tool with this key, built in or of an installed package; None where there is none.

    Raises PluginFailed where the record of another package cannot be used.
    """
    return BUILT_IN.get(key) or plugin(GROUP, key, ToolKind, "key")


def kind_of(key: str) -> ToolKind:
    """Return the record of the kind of tool with this key; where there is no usable one, which another check reports, a
    record of a kind that is remote, writes and takes any options."""
    try:
        found = registered(key)
    except PluginFailed:
        found = None
    return found or ToolKind(key, "", Anything())


def _shape(key: str) -> Shape | None:
    """Return the shape of the options below the key of a kind of tool, or None where there is no such kind."""
    found = registered(key)
    return found.shape if found is not None else None


OTHERS = Others(_shape, lambda: usable(GROUP, ToolKind, "key"))
"""The keys of tools that other packages add."""
