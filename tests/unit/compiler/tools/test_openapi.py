"""OpenAPI descriptions: references, names that two parts of a request share, and descriptions of the wrong form."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.tools.openapi import operations, resolve
from lmprog.tools.http import Draft

TEXT = {"type": "string"}
DOCUMENT: dict[str, Any] = {
    "servers": [{"url": "https://shop.example/{v}", "variables": {"v": {"default": "v1"}}}],
    "paths": {
        "/orders/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": TEXT}],
            "put": {
                "operationId": "change",
                "summary": "Changes an order.",
                "parameters": [{"name": "dry", "in": "query", "schema": TEXT, "description": "Whether to try."}],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"type": "object", "properties": {"id": TEXT, "state": TEXT}}}
                    }
                },
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "object"}}}}},
            },
        }
    },
}
SPEC = """lmprog: 1
inputs: {text: str}
tools: {change: {http: {openapi: shop.json, operation: change}}}
steps: {s: {tool: change, with: {id: "${{ inputs.text }}"}}}
outputs: {o: "${{ json(steps.s.result) }}"}
"""


def compiled(tmp_path: Path, document: Any) -> Any:
    (tmp_path / "p.yaml").write_text(SPEC)
    (tmp_path / "shop.json").write_text(json.dumps(document))
    return compile_file(tmp_path / "p.yaml")


def test_a_name_of_the_path_and_of_the_body_is_two_arguments(tmp_path: Path) -> None:
    tool = compiled(tmp_path, DOCUMENT).plan.tools["change"]
    assert list(tool.parameters) == ["id", "dry", "body_id", "state"]
    draft = Draft(tool, {"id": "7", "body_id": "8", "state": "sent"})
    assert (draft.url, draft.body) == ("https://shop.example/v1/orders/7", {"id": "8", "state": "sent"})


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#/paths/~1orders~1%7Bid%7D/parameters/0/schema", TEXT),
        ("other.yaml#/paths/~1orders~1%7Bid%7D/parameters/0/schema", {}),
        ("#/paths/orders", {}),
        ("#/servers/9", {}),
        ("#/servers/0/url", {}),
    ],
)
def test_a_reference_leads_to_its_part_of_this_file_alone(reference: str, found: Any) -> None:
    assert resolve({"$ref": reference}, DOCUMENT) == found


@pytest.mark.parametrize("document", [None, 3, "text", True, [], [3]])
def test_a_document_that_describes_nothing_is_a_finding(tmp_path: Path, document: Any) -> None:
    (finding,) = compiled(tmp_path, document).findings
    assert (finding.code, finding.line) == ("LMP103", 3)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def damaged(path: tuple[Any, ...], by: Any) -> Any:
    document = copy.deepcopy(DOCUMENT)
    around = document
    for key in path[:-1]:
        around = around[key]
    around[path[-1]] = by
    return document


@pytest.mark.parametrize("by", [None, 3, "text", [3], [[1]], {"a": None}])
def test_no_damage_to_a_description_is_a_traceback(by: Any) -> None:
    for path in paths(DOCUMENT):
        for operation in operations(damaged(path, by)).values():
            assert isinstance(operation.url, str | None) and isinstance(operation.about, str | None)


@pytest.mark.slow
@pytest.mark.parametrize("by", [None, 3, [[1]], {"a": None}])
def test_no_damage_to_a_description_is_a_traceback_of_the_check(tmp_path: Path, by: Any) -> None:
    for path in paths(DOCUMENT):
        compiled(tmp_path, damaged(path, by))


def test_a_reference_to_an_item_of_a_number_too_long_to_read_leads_nowhere() -> None:
    document = {"a": [{"type": "string"}]}
    assert resolve({"$ref": "#/a/0"}, document) == {"type": "string"}
    assert resolve({"$ref": "#/a/" + "1" * 5000}, document) == {}
