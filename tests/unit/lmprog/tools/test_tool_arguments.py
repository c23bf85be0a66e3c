"""The arguments of a tool step are held to the schema of the tool, as those of an agent's call are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmprog
from lmprog.compiler import compile_file
from lmprog.runtime.agent import offer

SPEC = """
lmprog: 1
name: find
inputs: {q: str, k: int}
outputs: {found: "${{ steps.find.result }}"}
tools: {find: TOOL}
steps: {find: {tool: find, with: {q: "${{ inputs.q }}", k: "${{ inputs.k }}"}}}
"""
CODE = """
from typing import Annotated, Literal
from pydantic import Field

def find(q: Literal["a", "b"], k: Annotated[int, Field(ge=1, le=3, description="how many")]) -> str:
    return q * k
"""


def test_bounds_and_values_of_an_annotation_hold_for_a_step(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(CODE)
    path = tmp_path / "p.yaml"
    path.write_text(SPEC.replace("TOOL", '{python: "./t.py:find"}').replace("q: str", "q: {type: {enum: [a, b]}}"))
    program = lmprog.load(path)
    assert program(q="a", k=2).outputs == {"found": "aa"}
    run = program.map([{"q": "a", "k": 4}])[0]
    assert run.outputs is None and "'k' of find: 4 is greater than the maximum of 3" in str(run.error)
    assert offer(program.plan.tools["find"], "find").parameters["properties"]["k"]["maximum"] == 3


@pytest.mark.parametrize("kind", ["mcp", "http"])
def test_check_says_what_is_json_to_the_program(tmp_path: Path, kind: str) -> None:
    either = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    properties = {"q": either, "k": {"type": "integer"}}
    if kind == "mcp":
        described = {"name": "find", "inputSchema": {"type": "object", "properties": properties}}
        tool = "{mcp: {command: [x], tool: find, schema: d.json}}"
    else:
        parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
        operation = {"operationId": "find", "parameters": parameters, "responses": {"200": {"description": "ok"}}}
        described = {"openapi": "3.1.0", "servers": [{"url": "http://x"}], "paths": {"/f": {"get": operation}}}
        tool = "{http: {openapi: d.json, operation: find}}"
    (tmp_path / "d.json").write_text(json.dumps(described))
    path = tmp_path / "p.yaml"
    path.write_text(SPEC.replace("TOOL", tool))
    found = [finding for finding in compile_file(path).findings if finding.code == "LMP604"]
    assert [finding.severity for finding in found] == ["info"]
    assert "`q` of tool `find` is json to the program: no type stands for `anyOf`" in found[0].message
