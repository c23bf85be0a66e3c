"""JSON schemas of tools: the type that each describes, and the arguments that the schema itself refuses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from lmprog.compiler.plan import Tool
from lmprog.compiler.tools.schema_fit import broken
from lmprog.compiler.tools.schema_limits import untyped
from lmprog.compiler.tools.schemas import schema_fields, schema_type
from lmprog.runtime.agent import offer, wrong_arguments

SELF = {"type": "object", "properties": {"x": {"$ref": "#/$defs/Self"}}}
DOCUMENT = {"$defs": {"Name": {"type": "string", "minLength": 2}, "Self": SELF}}


@pytest.mark.parametrize(
    ("schema", "type"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str?"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "float"),
        ({"anyOf": [{"$ref": "#/$defs/Name"}, {"type": "null"}]}, "str?"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "json"),
        ({"type": ["integer", "number", "null"]}, "float?"),
        ({"type": "string", "nullable": True}, "str?"),
        ({"enum": ["a", "b", None]}, "enum[a, b]?"),
        ({"enum": [1, 2]}, "int"),
        ({"type": "integer", "enum": [1, 2]}, "int"),
        ({"const": "a"}, '"a"'),
        ({"const": 3}, "int"),
        (
            {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                       {"properties": {"b": {"type": "integer"}}}]},
            "{a: str, b: int?}",
        ),
        ({"allOf": [{"$ref": "#/$defs/Name"}]}, "str"),
        (
            {"allOf": [{"required": ["a"]}, {"required": ["b"]},
                       {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}]},
            "{a: str, b: int}",
        ),
        ({"type": "array", "items": {"enum": ["a"]}}, 'list["a"]'),
        ({}, "json"),
    ],
)  # fmt: skip
def test_types_of_schemas(schema: dict[str, Any], type: str) -> None:
    assert str(schema_type(schema, DOCUMENT)) == type


def test_arguments_are_validated_against_the_schema_that_the_model_is_shown() -> None:
    schema = {
        "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "how many"},
            "kind": {"enum": [1, 2]},
            "name": {"$ref": "#/$defs/Name"},
            "either": {"anyOf": [{"type": "string", "pattern": "^a"}, {"type": "integer"}]},
            "self": {"$ref": "#/$defs/Self"},
        },
        "required": ["n"],
    }
    tool = Tool("t", "mcp", None, {}, "result", schema_type({}), schema_fields(schema, DOCUMENT))
    assert offer(tool, "f").parameters["properties"]["n"] == {
        "type": "integer",
        "minimum": 1,
        "description": "how many",
    }
    assert offer(tool, "f").parameters["properties"]["name"] == {"type": "string", "minLength": 2}
    assert wrong_arguments(tool, {"n": 1, "kind": 2, "name": "ab", "either": "ab"}) is None
    for wrong in ({"n": 0}, {"n": "1"}, {"n": 1, "kind": 3}, {"n": 1, "name": "a"}, {"n": 1, "either": "b"}, {}):
        assert wrong_arguments(tool, wrong) is not None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object"}, None),
        ({}, None),
        ({"type": ["string", "null"]}, None),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, None),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ("p", "`anyOf`")),
        ({"type": ["string", "integer"]}, ("p", "`type`")),
        ({"enum": [1, "a"]}, ("p", "`enum`")),
        ({"not": {"type": "string"}}, ("p", "`not`")),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ("p", "`additionalProperties`")),
        ({"type": "object", "properties": {"q": {"type": "array", "items": {"enum": [1, "a"]}}}}, ("p.q[]", "`enum`")),
        ({"type": "array", "items": {"patternProperties": {"^a": {}}}}, ("p[]", "`patternProperties`")),
    ],
)
def test_what_no_type_stands_for_is_named(schema: dict[str, Any], said: tuple[str, str] | None) -> None:
    assert next(untyped(schema, {}, "p"), None) == said


RICH = {
    "type": "object",
    "description": "An order.",
    "properties": {
        "a": {"type": "string", "enum": ["x", "y"]},
        "b": {"type": ["integer", "null"], "minimum": 1},
        "c": {"type": "array", "items": {"$ref": "#/$defs/d"}},
        "e": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"f": {"const": 3}}, "required": ["f"]}]},
        "g": {"allOf": [{"properties": {"h": {"type": "number"}}, "required": ["h"]}]},
    },
    "required": ["a"],
    "$defs": {"d": {"type": "object", "properties": {"again": {"$ref": "#/$defs/d"}, "n": {"type": "integer"}}}},
}
JUNK = [
    None,
    5,
    "x",
    [5],
    {"$ref": 5},
    {"allOf": [5]},
    {"anyOf": 5},
    {"enum": [[1]]},
    {"properties": []},
    {"required": [{}]},
]


def parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from parts(value[key], (*path, key))


def test_a_schema_may_hold_anything_anywhere() -> None:
    """Descriptions of tools come from servers and strangers."""
    tried = 0
    for path in parts(RICH):
        for junk in JUNK:
            schema = copy.deepcopy(RICH)
            node: Any = schema
            for key in path[:-1]:
                node = node[key]
            if path:
                node[path[-1]] = junk
            elif isinstance(junk, dict):
                schema = junk
            tried += 1
            for name, field in schema_fields(schema, schema).items():
                assert list(untyped(field.schema, {}, name)) is not None
    assert tried > 300


def test_a_schema_whose_parts_name_each_other_is_read_in_part() -> None:
    names = [f"p{number}" for number in range(6)]
    schema = {"properties": {name: {"$ref": "#"} for name in names}}
    fields = schema_fields(schema, schema)
    assert list(fields) == names and str(fields["p0"].type).startswith("{")


@pytest.mark.parametrize("schema", [{"type": "string", "pattern": r"^\p{L}+$"}, {"type": "any"}, {"$ref": "#/nowhere"}])
def test_a_schema_that_cannot_be_read_breaks_nothing(schema: dict[str, Any]) -> None:
    assert broken("hello", schema) is None


def test_a_flag_beside_a_bound_is_the_bound() -> None:
    (field,) = schema_fields(
        {"properties": {"n": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}}}
    ).values()
    assert field.schema is not None and broken(1, field.schema) is None and broken(0, field.schema) is not None
