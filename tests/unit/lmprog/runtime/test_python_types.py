"""Types are what Python says: models give schema, prompt and validation, and annotated functions get instances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmprog
from lmprog.compiler.replies import formats
from lmprog.compiler.types.lattice import json_schema
from lmprog.lms.api.body import parameters
from lmprog.lms.lm import Completion, Request

CODE = '''
import datetime
import enum
from dataclasses import dataclass
from pydantic import BaseModel, Field, field_validator

class Kind(enum.Enum):
    card = "card"
    cash = "cash"

class Part(BaseModel):
    """One part of an order."""
    count: int = Field(ge=1, le=9, description="how many")

class Order(BaseModel):
    """What was ordered."""
    kind: Kind
    day: datetime.date
    parts: list[Part]
    note: str = "none"

    @field_validator("note")
    @classmethod
    def short(cls, value):
        if len(value) > 10:
            raise ValueError("a note is short")
        return value

@dataclass
class Point:
    x: int

def look(order: Order, more: list[Part] | None = None, at: Point | None = None, day: datetime.date | None = None) -> str:
    assert isinstance(order, Order) and isinstance(order.kind, Kind) and isinstance(order.day, datetime.date)
    assert all(isinstance(part, Part) for part in more or [])
    assert at is None or isinstance(at, Point)
    return f"{order.kind.name} {order.parts[0].count} {order.note}"

def score(order: Order) -> float:
    return float(order.parts[0].count == 2)
'''
SPEC = """
lmprog: 1
name: orders
inputs: {text: str}
outputs: {order: "${{ steps.ask.order }}", said: "${{ steps.look.result }}"}
lms: {m: {model: openai/none}}
tools: {look: {python: "./kinds.py:look"}}
modules:
  ask: {lm: m, format: json, retry: 0, inputs: {text: str}, outputs: {order: {type: "./kinds.py:Order"}}}
steps:
  ask: {module: ask, with: {text: "${{ inputs.text }}"}}
  look: {tool: look, with: {order: "${{ steps.ask.order }}"}}
metrics: {right: {python: "./kinds.py:score", with: {order: "${{ outputs.order }}"}}}
"""
GOOD = {"kind": "card", "day": "2024-05-01", "parts": [{"count": 2}]}


@pytest.fixture
def program(tmp_path: Path):
    (tmp_path / "kinds.py").write_text(CODE)
    (tmp_path / "orders.yaml").write_text(SPEC)

    def made(reply: object) -> lmprog.Program:
        class Says:
            async def complete(self, request: Request) -> Completion:
                return Completion(text=json.dumps({"order": reply}))

        return lmprog.load(tmp_path / "orders.yaml", lms={"m": Says()})

    return made


def test_functions_and_metrics_get_instances_and_replies_their_defaults(program) -> None:
    result = program(GOOD)(text="x")
    assert result.outputs == {"order": {**GOOD, "note": "none"}, "said": "card 2 none"}
    assert lmprog.evaluate(program(GOOD), [{"text": "x"}], "right").mean == 1.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": [{"count": 10}]}, "less than or equal to 9"),
        ({"day": "soon"}, "day"),
        ({"kind": "gold"}, "not one of card, cash"),
        ({"note": "much too long a note"}, "a note is short"),
    ],
)
def test_replies_are_validated_by_the_model(program, change: dict[str, object], said: str) -> None:
    with pytest.raises(lmprog.RunError, match=said):
        program({**GOOD, **change})(text="x")


def test_the_model_reaches_prompt_and_schema(program) -> None:
    module = program(GOOD).plan.modules["ask"]
    schema = json_schema(module.outputs["order"].type)
    assert schema["description"] == "What was ordered."
    assert schema["properties"]["day"] == {"format": "date", "type": "string"}
    assert schema["properties"]["kind"]["enum"] == ["card", "cash"]
    assert schema["properties"]["note"]["default"] == "none"
    assert schema["properties"]["parts"]["items"]["properties"]["count"]["maximum"] == 9
    assert "$ref" not in json.dumps(schema)
    described = formats.describe("json", module.outputs)
    assert "how many" in described and "What was ordered." in described
    kind = module.outputs["order"].type
    sent = parameters(Request([], output_type=kind, format="json"), structured=True, seeded=False)
    assert sent["response_format"]["json_schema"]["strict"] is False  # a default: not all fields are asked for
