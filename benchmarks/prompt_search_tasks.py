"""The tasks of benchmarks/prompt_search.py: their rows, their metrics, and their programs as lmprog specs."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "embedded/smollm2-135m"
CLASSIFY = "Name the intent of the customer's message."
FIRST = "Write a search query that finds the first page which the question depends on."
SECOND = "Pages were found for the question. Write a search query that finds a page which is still missing."
BANKING77_TOKENS, MULTIHOP_TOKENS = 40, 48
"""Of a reply: enough for the form in which DSPy wants it, which is the longer one."""
PROPOSAL_TOKENS = 128
"""Of a reply of the model as proposer, for lmprog and DSPy alike."""
HITS = 5
"""Pages that a search finds."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Rows and candidates. `train`, `dev` and `test` are those of Banking77, for each intent."""

    intents: int = 12
    train: int = 10
    dev: int = 5
    test: int = 13
    multihop_train: int = 30
    """Of 70: where DSPy solves no row it runs through all of them, one after the other."""
    multihop: int = 40
    """Dev rows, and test rows."""
    candidates: int = 4
    """Of DSPy's random search, beside its three fixed ones; they decide what all others may spend."""


QUICK = Sizes(train=5, dev=3, test=5, multihop_train=6, multihop=12, candidates=1)


@dataclass(frozen=True)
class Task:
    """One task of one seed. `spec` names the files of the train and dev rows; the test rows stand nowhere."""

    name: str
    spec: Path
    metric: str
    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]
    inputs: Sequence[str]
    labels: Sequence[str]
    corpus: Path
    max_tokens: int
    demos: int
    """The most demos of a module, for every optimizer."""


BANKING77 = """
lmprog: 1
name: banking77
description: Name the intent of a customer's message to a bank.
lms:
  student: {model: MODEL, params: {max_tokens: TOKENS}}
  proposer: {model: MODEL, params: {max_tokens: PROPOSAL_TOKENS}}
modules:
  classify:
    lm: student
    inputs: {text: str}
    outputs: {intent: {type: {enum: LABELS}}}
    instructions: CLASSIFY
data: {train: train.jsonl, dev: dev.jsonl}
metrics:
  accuracy:
    python: prompt_search_tasks:exact_match
    with: {label: "${{ outputs.intent }}", wanted: "${{ row.intent }}"}
optimize:
  metric: accuracy
  train: train
  validate: dev
  proposer: proposer
  tune: {classify: [instructions, demos, layout]}
  stages: [prompt_search]
"""

MULTIHOP = """
lmprog: 1
name: multihop
description: Find every page that a question depends on, in two searches.
inputs: {question: str}
outputs: {titles: "${{ unique(steps.search_first.titles + steps.search_second.titles) }}"}
lms:
  student: {model: MODEL, params: {max_tokens: TOKENS}}
  proposer: {model: MODEL, params: {max_tokens: PROPOSAL_TOKENS}}
tools:
  search: {search: {corpus: CORPUS, text: [title, text], key: title}, result: titles}
modules:
  first:
    lm: student
    inputs: {question: str}
    outputs: {query: str}
    instructions: FIRST
  second:
    lm: student
    inputs: {question: str, titles: "list[str]"}
    outputs: {query: str}
    instructions: SECOND
steps:
  ask_first: {module: first, with: {question: "${{ inputs.question }}"}}
  search_first: {tool: search, with: {query: "${{ steps.ask_first.query }}", k: HITS}}
  ask_second:
    module: second
    with: {question: "${{ inputs.question }}", titles: "${{ steps.search_first.titles }}"}
  search_second: {tool: search, with: {query: "${{ steps.ask_second.query }}", k: HITS}}
data: {train: train.jsonl, dev: dev.jsonl}
metrics:
  recall:
    python: prompt_search_tasks:title_recall
    with: {found: "${{ outputs.titles }}", wanted: "${{ row.titles }}"}
optimize:
  metric: recall
  train: train
  validate: dev
  proposer: proposer
  tune: {first: [instructions, demos, layout], second: [instructions, demos, layout]}
  stages: [prompt_search]
"""


def exact_match(label: str, wanted: str) -> bool:
    """Whether the label is the right one."""
    return label == wanted


def title_recall(found: list[str], wanted: list[str]) -> float:
    """The share of the wanted titles that were found."""
    return len(set(found) & set(wanted)) / len(set(wanted))


def banking77(data: Path, sizes: Sizes, seed: int, folder: Path) -> Task:
    """The first intents by name. The seed draws train and dev rows; test rows differ by seed while there are some left."""
    read = {name: _read(data / "banking77" / f"{name}.jsonl") for name in ("train", "test")}
    # Some texts stand in both files, and some twice: each is used once, and never on both sides.
    tested = {row["text"]: row for row in read["test"]}
    kept = {row["text"]: row for row in read["train"] if row["text"] not in tested}
    labels = sorted({row["intent"] for row in read["train"]})[: sizes.intents]
    train, dev, test = [], [], []
    for label in labels:
        pool = [row for row in kept.values() if row["intent"] == label]
        random.Random(f"{label} {seed}").shuffle(pool)
        train += pool[: sizes.train]
        dev += pool[sizes.train : sizes.train + sizes.dev]
        pool = [row for row in tested.values() if row["intent"] == label]
        random.Random(label).shuffle(pool)
        start = seed * sizes.test % len(pool)
        test += (pool[start:] + pool[:start])[: sizes.test]
    for rows in (train, dev, test):
        random.Random(seed).shuffle(rows)
    spec = _written(BANKING77, {"TOKENS": BANKING77_TOKENS, "LABELS": labels, "CLASSIFY": CLASSIFY}, train, dev, folder)
    return Task("banking77", spec, "accuracy", train, dev, test, ("text",), labels, Path(), BANKING77_TOKENS, 16)


def multihop(data: Path, sizes: Sizes, seed: int, folder: Path) -> Task:
    """The dev and test rows are the same for all seeds; the seed draws the train rows and their order."""
    corpus = (data / "multihop" / "corpus.jsonl").resolve()
    splits = [_read(data / "multihop" / f"{name}.jsonl") for name in ("train", "dev", "test")]
    train, dev, test = ([{"question": row["question"], "titles": row["titles"]} for row in rows] for rows in splits)
    random.Random(seed).shuffle(train)
    train, dev, test = train[: sizes.multihop_train], dev[: sizes.multihop], test[: sizes.multihop]
    said = {"TOKENS": MULTIHOP_TOKENS, "CORPUS": str(corpus), "FIRST": FIRST, "SECOND": SECOND, "HITS": HITS}
    spec = _written(MULTIHOP, said, train, dev, folder)
    return Task("multihop", spec, "recall", train, dev, test, ("question",), (), corpus, MULTIHOP_TOKENS, 8)


TASKS = {"banking77": banking77, "multihop": multihop}


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _written(spec: str, said: dict[str, Any], train: Sequence[Row], dev: Sequence[Row], folder: Path) -> Path:
    """The spec and its rows in `folder`."""
    for name, value in {"PROPOSAL_TOKENS": PROPOSAL_TOKENS, "MODEL": MODEL, **said}.items():
        spec = spec.replace(name, json.dumps(value))
    for name, rows in (("train", train), ("dev", dev)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "program.yaml"
    path.write_text(spec)
    return path
