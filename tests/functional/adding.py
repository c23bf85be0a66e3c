"""A program of two modules on a server that adds well only when its prompt says how, or shows it; and a proposer there."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONCURRENCY = 4
"""Requests in flight, of each LM of the program."""
GOOD = "Add both numbers, carefully."
BAD = ["Take the larger number.", "Write a poem about numbers.", "Guess."]
BREAKING = "Read on. " * 8000
"""Does not fit the context that the program declares."""


def proposed(text: str) -> str:
    """A reply of the proposer, as both prompt_search and gepa read it."""
    return f"Here it is:\n```\n<instructions>{text}</instructions>\n```"


@pytest.fixture
def sums(write, provider, tmp_path: Path) -> Callable[..., Path]:
    """Writes a program of two modules whose student adds well only when its prompt says so, or shows how."""
    provider.answer = answer
    served = f'api_base: "{provider.url}", api_key: none, context: 8000, limits: {{concurrency: {CONCURRENCY}}}'
    draw = random.Random(5)
    for split, count in (("train", 24), ("dev", 32), ("test", 16)):
        rows = [{"a": draw.randrange(100), "b": draw.randrange(100)} for _ in range(count)]
        lines = [json.dumps({**row, "sum": row["a"] + row["b"]}) + "\n" for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    (tmp_path / "metrics.py").write_text("def same(found: int, wanted: int) -> bool:\n    return found == wanted\n")

    def make(stage: str, tune: str = "plan: [instructions, demos], add: [instructions, demos]") -> Path:
        return write(f"""
            lmprog: 1
            name: sums
            inputs: {{a: int, b: int}}
            outputs: {{sum: "${{{{ steps.add.sum }}}}"}}
            lms:
              planner: {{model: openai/planner, params: {{max_tokens: 40}}, {served}}}
              adder: {{model: openai/adder, params: {{max_tokens: 40}}, {served}}}
              writer: {{model: openai/writer, params: {{max_tokens: 200}}, {served}}}
            modules:
              plan: {{lm: planner, inputs: {{a: int, b: int}}, outputs: {{way: str}}, instructions: Say how.}}
              add:
                lm: adder
                inputs: {{a: int, b: int, way: str}}
                outputs: {{sum: int}}
                instructions: Say something.
            steps:
              plan: {{module: plan, with: {{a: "${{{{ inputs.a }}}}", b: "${{{{ inputs.b }}}}"}}}}
              add:
                module: add
                with: {{a: "${{{{ inputs.a }}}}", b: "${{{{ inputs.b }}}}", way: "${{{{ steps.plan.way }}}}"}}
            data: {{train: train.jsonl, dev: dev.jsonl, test: test.jsonl}}
            metrics:
              accuracy:
                python: ./metrics.py:same
                with: {{found: "${{{{ outputs.sum }}}}", wanted: "${{{{ row.sum }}}}"}}
            optimize:
              metric: accuracy
              train: train
              validate: dev
              proposer: writer
              tune: {{{tune}}}
              stages:
                - {stage}
        """)

    return make


def answer(body: dict[str, Any]) -> str:
    """What both LMs say: the same for the same request, so that a run can be compared with another."""
    said = json.dumps(body["messages"])
    chance = random.Random(said + str(body.get("seed")))
    if body["model"] == "writer":
        return proposed(chance.choice([GOOD, BREAKING, *BAD]))
    if body["model"] == "planner":
        return "count on"
    numbers = re.findall(r"\d+", body["messages"][-1]["content"])
    total = int(numbers[0]) + int(numbers[1])
    shown = len(body["messages"]) // 2 - 1  # demos, as earlier turns
    knows = 0.1 + 0.8 * (GOOD in body["messages"][0]["content"]) + 0.25 * min(3, shown)
    return str(total if chance.random() < knows else total + 1)
