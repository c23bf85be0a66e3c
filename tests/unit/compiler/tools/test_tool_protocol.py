"""The words in which an agent calls tools: what is read from them, what is forgiven, what a tool is described as."""

from __future__ import annotations

import pytest

from lmprog.compiler.plan import Field, Tool
from lmprog.compiler.replies import tool_calls
from lmprog.compiler.tools import protocol as tool_protocol
from lmprog.compiler.tools.mcp_servers import described_tool
from lmprog.compiler.types.lattice import INT, STR, UNKNOWN, Enum, ListOf, Object, Optional

ONE = '<call>{"tool": "find", "arguments": {"query": "a"}}</call>'


@pytest.mark.parametrize(
    ("text", "calls", "rest", "forgiven"),
    [
        ("an answer", [], "", []),
        (ONE, [("find", {"query": "a"})], ONE, []),
        (f"I look.\n{ONE}\n{ONE}", [("find", {"query": "a"})] * 2, f"I look.\n{ONE}\n{ONE}", []),
        (f"{ONE}\nThe result is b.\n{ONE}", [("find", {"query": "a"})], ONE, ["words after the calls"]),
        ('<call>{"tool": "now"}</call>', [("now", {})], '<call>{"tool": "now"}</call>', []),
        (ONE.removesuffix("</call>"), [("find", {"query": "a"})], ONE.removesuffix("</call>"), ["</call> is missing"]),
        (ONE.removesuffix("</call>") + ONE, [("find", {"query": "a"})] * 2, None, ["</call> is missing"]),
        (
            '<call>```json\n{"tool": "find", "arguments": {"query": "a"},}\n```</call>',
            [("find", {"query": "a"})],
            None,
            ["a code fence around JSON", "a trailing comma in JSON"],
        ),
    ],
)
def test_calls_in_a_reply(text, calls, rest, forgiven) -> None:
    passed: list[str] = []
    said, found = tool_calls.read(text, passed)
    assert [(call.tool, call.arguments) for call in found] == calls
    assert all(call.problem is None for call in found)
    assert rest is None or said == rest
    assert passed == forgiven


@pytest.mark.parametrize("written", ["find a", '{"name": "find"}', '{"tool": "find", "arguments": [1]}', "[1]", ""])
def test_what_is_no_call_has_a_problem(written) -> None:
    (call,) = tool_calls.read(f"<call>{written}</call>", [])[1]
    assert call.problem and not call.tool


def test_a_tool_in_one_line() -> None:
    parameters = {
        "kind": Field(Enum(("a", "b", "c", "d", "e"))),
        "ids": Field(ListOf(INT), about="Which ones."),
        "more": Field(Object((("x", STR),)), has_default=True),
        "note": Field(Optional(STR)),
        "any": Field(UNKNOWN),
    }
    tool = Tool("act", "python", None, {}, "done", STR, parameters, about="Acts,\nat once.\n\nDetails.", open=True)
    assert tool_protocol.signature(tool, "act") == (
        'act(kind: "a" | "b" | "c" | "d" | "e", ids: list[int] (Which ones), more?: {x: str}, note?: str, any: any, ...): '
        "Acts, at once."
    )


def test_a_result_cannot_end_its_own_section() -> None:
    shown = tool_protocol.shown([("find", "a</result>b", False), ("find", "no", True)])
    assert shown == '<result tool="find">a<\\/result>b</result>\n<error tool="find">no</error>'


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("", {}),
        ("null", {}),
        ('{}""', {}),
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("{'a': 1,}", {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": 1}{"a": 2}', None),
        ('{"a": 1', None),
        ("[1]", None),
        ("a = 1", None),
        ("<think>{}", None),
    ],
)
def test_arguments_are_read_loosely_or_told(written: str, found: dict[str, int] | None) -> None:
    given, problem = tool_calls.arguments(written, [])
    assert (given, problem is None) == ({} if found is None else found, found is not None)


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["find", "shop.order"], ["find", "order"]),
        (["order", "shop.order"], ["order", "shop_order"]),
        (["a.order", "b.order", "b.more"], ["a_order", "b_order", "more"]),
        (["a.get-it", "a.x/y.z"], ["get-it", "x_y_z"]),
        (["a.x/y", "a.x.y"], ["a_x_y", "a_x_y_2"]),
        (["a." + "n" * 80, "b." + "n" * 80], ["a_" + "n" * 62, "b_" + "n" * 62]),
    ],
)
def test_tools_have_the_names_of_their_servers_where_they_are_one_each(ids: list[str], names: list[str]) -> None:
    tools = [Tool(id, "mcp", None, {}, "result", STR, {}) for id in ids]
    found = tool_protocol.named(tools)
    assert list(found) == names and [tool.id for tool in found.values()] == ids


def test_a_description_of_several_lines_stands_in_one() -> None:
    tool = described_tool(
        "find", {"inputSchema": {"properties": {"q": {"type": "string", "description": "Words,\n or none.\n"}}}}
    )
    assert tool_protocol.signature(tool, "find") == "find(q?: str (Words, or none))"


def test_a_schema_that_is_a_reference_has_the_parameters_that_it_names() -> None:
    order = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    schema = {"$ref": "#/$defs/Order", "$defs": {"Order": order}}
    assert list(described_tool("find", {"inputSchema": schema, "outputSchema": schema}).parameters) == ["id"]
