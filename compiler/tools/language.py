"""The shape of an entry of `tools`."""

from __future__ import annotations

from lmprog.compiler.shape import Boolean, Choice, ListOf, Number, Record, Text
from lmprog.compiler.tools.kinds import BUILT_IN, OTHERS

TOOL = Record(
    {
        **{kind.key: kind.shape for kind in BUILT_IN.values()},
        "only": ListOf(
            Text(),
            1,
            about="The tools of an MCP server that the program takes, by their names there.",
            default="all tools of the server",
            example="[find_order]",
        ),
        "result": Text(
            about="The name of the tool's output: steps read it as steps.<id>.<name>.",
            default="result",
            example="titles",
        ),
        "about": Text(
            about="What it does, as an agent is told.",
            default="its docstring or description",
            example="Finds an order by its number.",
        ),
        "trusted": Boolean(
            about="Whether private values may reach it.",
            default="true for python and search, which run on this machine; else false",
            example="true",
        ),
        "effects": Choice(
            ("read", "write"),
            about="write: it changes something outside.",
            default="write for HTTP methods other than GET and HEAD, for MCP tools not marked readOnlyHint, and for Python "
            "tools that an agent can call; else read",
            example="read",
        ),
        "timeout": Number(
            above=0,
            about="Seconds of one call; of an MCP server also of its start and of its listing.",
            default="120",
            example="10",
        ),
        "answer_mb": Number(
            above=0,
            about="The longest answer that is read, decoded, in millions of bytes; for http and mcp.",
            default="16",
            example="2",
        ),
        "cache": Boolean(
            about="Whether equal calls are answered from memory, where it only reads.", default="false", example="true"
        ),
    },
    one_of=tuple(BUILT_IN),
    only={
        "only": ("mcp",),
        "answer_mb": tuple(kind.key for kind in BUILT_IN.values() if kind.remote),
    },
    others=OTHERS,
)
