"""A model with aliases: the prompt and a reply have the aliases, the program has the names."""

from __future__ import annotations

import json
from pathlib import Path

import lmprog
from lmprog.compiler.replies import formats, reading

CODE = """
from pydantic import BaseModel, Field

class Item(BaseModel):
    unit_price: float = Field(alias="unitPrice")

class Order(BaseModel):
    order_id: int = Field(alias="orderId", ge=1)
    items: list[Item] = Field(alias="lineItems")

def total(order: Order) -> float:
    return sum(item.unit_price for item in order.items)
"""
SPEC = """
lmprog: 1
name: orders
inputs: {text: str}
outputs: {id: "${{ steps.ask.order.order_id }}", total: "${{ steps.total.result }}"}
lms: {m: {model: openai/none}}
tools: {total: {python: "./kinds.py:total"}}
modules:
  ask: {lm: m, format: FORMAT, retry: 0, inputs: {text: str}, outputs: {order: {type: "./kinds.py:Order"}}}
steps:
  ask: {module: ask, with: {text: "${{ inputs.text }}"}}
  total: {tool: total, with: {order: "${{ steps.ask.order }}"}}
"""
ALIASED = {"orderId": 7, "lineItems": [{"unitPrice": 1.5}, {"unitPrice": "2"}]}
NAMED = {"order_id": 7, "items": [{"unit_price": 1.5}, {"unit_price": 2.0}]}


def test_a_reply_by_alias_or_by_name_is_validated_and_read_by_name(tmp_path: Path, scripted) -> None:
    (tmp_path / "kinds.py").write_text(CODE)
    for format in ("json", "text"):
        path = tmp_path / f"{format}.yaml"
        path.write_text(SPEC.replace("FORMAT", format))
        for said in (ALIASED, NAMED, {**ALIASED, "orderId": 7.0}):
            text = json.dumps({"order": said} if format == "json" else said)
            lm = scripted(lambda request, text=text: "For example {}: " + text)
            assert lmprog.load(path, lms={"m": lm})(text="x").outputs == {"id": 7, "total": 3.5}
            assert '"orderId"' in str(lm.requests[0].messages) and "order_id" not in str(lm.requests[0].messages)


def test_a_bound_of_the_model_holds_under_its_alias(tmp_path: Path, scripted) -> None:
    (tmp_path / "kinds.py").write_text(CODE)
    path = tmp_path / "p.yaml"
    path.write_text(SPEC.replace("FORMAT", "json"))
    program = lmprog.load(path, lms={"m": scripted(lambda request: json.dumps({"order": {**ALIASED, "orderId": 0}}))})
    run = program.map([{"text": "x"}])[0]
    assert run.outputs is None and "order_id" in str(run.error) and "greater than or equal to 1" in str(run.error)


def test_a_demo_shows_the_aliases(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(CODE)
    path = tmp_path / "p.yaml"
    path.write_text(SPEC.replace("FORMAT", "json"))
    outputs = lmprog.load(path).plan.modules["ask"].outputs
    written = formats.write("json", outputs, {"order": NAMED})
    assert json.loads(written) == {"order": {"orderId": 7, "lineItems": [{"unitPrice": 1.5}, {"unitPrice": 2.0}]}}
    assert reading.read("json", outputs, written).values == {"order": NAMED}
