"""A small program whose LM is a script: right answers need the right instructions or enough demos."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.lms.lm import Completion, Request, Usage
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.optimizer import Task
from lmprog.runtime.program import Program
from lmprog.spending.budget import Budget

SPEC = """\
lmprog: 1
name: parity
inputs: {number: int}
outputs: {parity: "${{ steps.judge.parity }}"}
lms:
  judge: {model: openai/scripted, context: 4000}
  writer: {model: openai/writer}
modules:
  judge:
    lm: judge
    inputs: {number: int}
    outputs: {parity: {type: {enum: [odd, even]}}}
    instructions: Say something.
steps:
  judge: {module: judge, with: {number: "${{ inputs.number }}"}}
data:
  train: train.jsonl
  dev: dev.jsonl
  test: test.jsonl
metrics:
  accuracy:
    python: ./metrics.py:same
    with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}
optimize:
  metric: accuracy
  train: train
  validate: dev
  tune: {judge: [instructions, demos]}
  stages:
    - prompt_search: {trials: 6, bootstrap_rows: 4, demos: [2], demo_sets: 2}
"""

RESEARCH = """
lmprog: 1
name: research
inputs: {text: str}
outputs: {answer: "${{ steps.answer.said }}", queries: "${{ steps.look.queries }}"}
lms:
  lm: {model: hf/MODEL, params: {max_tokens: 5}}
modules:
  query: {lm: lm, inputs: {text: str, queries: "list[str]"}, outputs: {query: str}, instructions: Ask}
  answer: {lm: lm, inputs: {text: str, queries: "list[str]"}, outputs: {said: str}, instructions: Say}
tools:
  enough: {python: ./metrics.py:enough, result: ended}
steps:
  look:
    repeat: {until: state.ended, at_most: 3}
    state: {queries: {type: "list[str]", start: []}, ended: {type: bool, start: false}}
    steps:
      query: {module: query, with: {text: "${{ inputs.text }}", queries: "${{ state.queries }}"}}
      enough: {tool: enough, with: {query: "${{ steps.query.query }}"}}
    next: {queries: {append: "${{ steps.query.query }}"}, ended: {set: "${{ steps.enough.ended }}"}}
  answer: {module: answer, with: {text: "${{ inputs.text }}", queries: "${{ steps.look.queries }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics:
  letters:
    python: ./metrics.py:letters
    with: {answer: "${{ outputs.answer }}", queries: "${{ outputs.queries }}"}
optimize:
  metric: letters
  tune: {query: [weights], answer: [weights]}
  stages: [grpo]
"""
RESEARCH_METRICS = """
def enough(query: str) -> bool:
    return sum(map(ord, query)) % 3 == 0

def letters(answer: str, queries: list[str]) -> float:
    return sum(map(ord, answer + "".join(queries))) % 7 / 6
"""


class Scripted:
    """Answers rightly where a message holds `good`, else always odd; counts what it is asked."""

    def __init__(self, good: str = "divide by two") -> None:
        self.good, self.calls = good, 0

    async def complete(self, request: Request) -> Completion:
        self.calls += 1
        number = int(re.findall(r"\d+", request.messages[-1]["content"])[-1])
        knows = any(self.good in f"{said['role']}: {said['content']}".lower() for said in request.messages)
        text = ("odd", "even")[number % 2 == 0] if knows else "odd"
        return Completion(text, usage=Usage(10, 1, 0.001))


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes the program and its rows (30 dev rows, half of them even); replacements are made in the text."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = SPEC
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "parity.yaml").write_text(text)
        (tmp_path / "metrics.py").write_text("def same(found: str, wanted: str) -> bool:\n    return found == wanted\n")
        for name, first, count in (("train", 1000, 20), ("dev", 2000, 30), ("test", 3000, 20)):
            rows = [{"number": n, "parity": ("odd", "even")[n % 2 == 0]} for n in range(first, first + count)]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "parity.yaml"

    return write


@pytest.fixture
def task_of(tmp_path: Path) -> Callable[..., Task]:
    """The task that a stage of a program gets; half of the dev rows choose."""

    def make(program: Program, limits: dict[str, float] | None = None, listeners=()) -> Task:
        from lmprog.scoring.data import rows_of

        budget = Budget(limits or {})
        metered = program.with_budget(budget)
        train, dev = rows_of(program.plan, "train"), rows_of(program.plan, "dev")
        journal = Journal(tmp_path / "run", tuple(listeners))
        return Task(metered, train, dev[:15], "accuracy", budget, journal, 0, screened=dev)

    return make


@pytest.fixture
def parity(write_spec: Callable[..., Path]) -> Callable[..., tuple[Program, Scripted]]:
    """The program with its script."""

    def make(*replacements: tuple[str, str], good: str = "divide by two") -> tuple[Program, Scripted]:
        script = Scripted(good)
        return lmprog.load(write_spec(*replacements), lms={"judge": script, "writer": script}), script

    return make


def small_llama() -> Any:
    """A small Llama of random weights with a LoRA adapter that is not zero, in fp32; each call gives the same one."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        eos_token_id=1,
        pad_token_id=0,
    )
    lora = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return peft.get_peft_model(LlamaForCausalLM(config), lora)


@pytest.fixture(scope="session")
def tuned_llama() -> Callable[[], Any]:
    return small_llama


@pytest.fixture(scope="session")
def research(tiny_model: Callable[..., Path]) -> Callable[..., Task]:
    """The task of a `grpo` stage, in a folder: a loop of queries until one will do, then an answer, on a small fp32 model.

    Each task has weights of its own; replacements are made in the text of the program.
    """

    def make(folder: Path, *replacements: tuple[str, str]) -> Task:
        import torch

        from lmprog.lms.local import LocalLM
        from lmprog.lms.local.weights import Weights
        from lmprog.scoring.data import rows_of

        text = RESEARCH
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        model = f"hf/{tiny_model()}"
        (folder / "program.yaml").write_text(text.replace("hf/MODEL", model))
        (folder / "metrics.py").write_text(RESEARCH_METRICS)
        (folder / "rows.jsonl").write_text(
            "".join(json.dumps({"text": word}) + "\n" for word in ("one", "two", "three"))
        )
        budget = Budget({})
        lm = LocalLM(Weights(model, dtype=torch.float32))
        program = lmprog.load(folder / "program.yaml", lms={"lm": lm}).with_budget(budget)
        rows = rows_of(program.plan, "train")
        return Task(program, rows, rows, "letters", budget, Journal(folder / "run", ()), 0)

    return make
