"""Every key of the language says what it means, what holds without it, and shows an example that passes a check."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.compiler.language import PROGRAM
from lmprog.compiler.schema.keys import STAGES, Key, keys, type_text
from lmprog.compiler.schema.language import schema
from lmprog.compiler.shape import Anything, Either, Lazy, ListOf, MapOf, Nullable, Record, Shape
from lmprog.compiler.types.shapes import LONG_FORM
from lmprog.optimizers.optimizer import options_of

FRAME = yaml.safe_load("""
lmprog: 1
name: triage
inputs: {text: {type: str}, topics: "list[str]"}
outputs: {label: "${{ steps.classify.label }}", notes: "${{ steps.loop.notes }}", score: "${{ steps.loop.score }}",
  place: "${{ steps.placed.value }}"}
lms: {student: {model: hosted_vllm/Qwen/Qwen3-8B, api_base: "http://localhost:8000/v1"}, here: {model: embedded/smollm2-135m},
  other: {model: openai/gpt-4.1-mini}}
tools:
  find: {python: "./shop/tools.py:find", result: titles}
  look: {http: {url: "https://api.example.com/orders/{order}", inputs: {order: str}}}
  described: {http: {openapi: shop/openapi.yaml, operation: getOrder}}
  served: {mcp: {command: [python, shop/server.py], tool: find_order}}
  whole: {mcp: {command: [python, shop/server.py]}, only: [find_order]}
  part: {mcp: {command: [python, shop/server.py], resource: "shop://orders"}}
  words: {mcp: {command: [python, shop/server.py], prompt: complaint}}
  away: {mcp: {url: "https://tools.example.com/mcp", tool: find_order}}
  books: {search: {corpus: shop/answers.jsonl, text: title, key: title}}
  hub: {search: {corpus: {hf: owner/name, split: train}, text: title, key: title}}
modules:
  classify: {lm: student, inputs: {text: str}, outputs: {label: {enum: [refund, delivery, other]}}}
  local: {lm: here, inputs: {text: str}, outputs: {label: {enum: [refund, delivery, other]}}}
  critique: {lm: student, inputs: {text: str}, outputs: {note: str, score: float}}
steps:
  find: {tool: find, with: {query: tea}}
  classify: {module: classify, with: {text: "${{ inputs.text }}"}}
  each: {module: classify, foreach: "${{ inputs.topics }}", with: {text: "${{ item }}"}}
  judged: {program: ./critic.yaml, with: {text: "${{ inputs.text }}"}}
  valued: {value: "1"}
  placed: {value: {city: "${{ inputs.text }}"}}
  maybe: {module: classify, when: "true", else: {label: refund}, with: {text: a}}
  loop:
    repeat: 3
    state: {notes: {type: "list[str]", start: []}, score: {type: float, start: 0}}
    steps:
      critique: {module: critique, with: {text: "${{ inputs.text }}"}}
      search: {tool: find, with: {query: tea}}
    next: {notes: {append: "${{ steps.critique.note }}"}, score: {set: "${{ steps.critique.score }}"}}
data: {train: train.jsonl, dev: dev.jsonl}
metrics:
  right: {python: "./metrics.py:same", with: {found: "${{ outputs.label }}", wanted: "${{ row.label }}"}}
  judged: {program: ./judge.yaml, with: {text: "${{ outputs.label }}"}}
  both: {value: metrics.right}
optimize: {metric: right, proposer: student, tune: {classify: [instructions, demos], local: [weights]}, stages: [bootstrap]}
tests:
  refunds: {inputs: {text: a, topics: []}, expect: {label: refund}}
  gate: {data: dev, metric: right, at_least: 0.5}
export: {traces: traces.jsonl}
""")
ONE = yaml.safe_load("""
lmprog: 1
lms: {student: {model: openai/gpt-4.1-mini}}
modules: {classify: {inputs: {text: str}, outputs: {label: {enum: [refund, delivery, other]}}}}
ensemble: {members: [{}, {classify: {instructions: Name the topic.}}], vote: label}
data: {fractions: {from: all.csv, train: 0.3, dev: 0.2}}
metrics: {right: {python: "./metrics.py:same", with: {found: "${{ outputs.label }}", wanted: "${{ row.label }}"}}}
tests: [{data: dev, metric: right, at_least: 0.5}, {inputs: {text: a}, expect: {label: refund}}]
export: {traces: {otlp: "http://localhost:4318/v1/traces"}}
""")
PRIVATE = yaml.safe_load("""
lmprog: 1
lms: {student: {model: openai/gpt-4.1-mini, trusted: true}}
modules: {rewrite: {inputs: {text: {type: str, private: true}}, outputs: {request: {type: str}}}}
metrics: {leak: {python: "./metrics.py:same", with: {found: "${{ outputs.request }}", wanted: "${{ row.text }}"}}}
data: {dev: dev.jsonl}
""")
FILES = {
    "labels.txt": "refund\ndelivery\n",
    "train.jsonl": '{"text": "Money back", "topics": [], "label": "refund", "category": "refund", "hops": 3}\n',
    "dev.jsonl": '{"text": "No parcel", "topics": [], "label": "delivery", "category": "refund", "hops": 4}\n',
    "all.csv": "text,label\n" + "".join(f"message {number},refund\n" for number in range(20)),
    "metrics.py": "def same(found: str, wanted: str) -> bool:\n    return found == wanted\n",
    "shop/server.py": "",
    "shop/tools.py": 'def find(query: str) -> list[str]:\n    """Finds titles."""\n    return [query]\n\n\n'
    "def order_state(query: str) -> list[str]:\n    return []\n",
    "shop/answers.jsonl": '{"title": "Refunds", "text": "Ask within a month."}\n',
    "shop/find_order.json": json.dumps({"type": "object", "properties": {"order": {"type": "string"}}}),
    "shop/openapi.yaml": "openapi: 3.1.0\ninfo: {title: Shop, version: '1'}\nservers: [{url: https://api.example.com}]\n"
    "paths: {/orders: {get: {operationId: getOrder, responses: {'200': {description: It.}}}}}\n",
    "critic.yaml": "lmprog: 1\nlms: {critic: {model: openai/gpt-4.1-mini}}\n"
    "modules: {judge: {inputs: {text: str}, outputs: {score: float}}}\n",
    "judge.yaml": "lmprog: 1\nlms: {critic: {model: openai/gpt-4.1-mini}}\n"
    "modules: {judge: {inputs: {text: str}, outputs: {score: float}}}\n",
    "base.yaml": "lmprog: 1\nlms: {student: {model: openai/gpt-4.1-mini}}\n"
    "modules: {classify: {inputs: {text: str}, outputs: {label: str}}}\n",
    "big.yaml": json.dumps(
        {key: FRAME[key] for key in ("lmprog", "inputs", "outputs", "lms", "tools", "modules", "steps")}
    ),
    "adapters/classify/adapter_config.json": "{}",
}
Place = tuple[dict[str, Any], str]
"""A program, and the path of a mapping in it."""
SECTIONS: dict[str, Place] = {
    "": (FRAME, ""),
    "ensemble": (ONE, "ensemble"),
    "ensemble.members[].<module>": (ONE, "ensemble.members.1.classify"),
    "type": (FRAME, "inputs.text"),
    "lms.<LM>.speed": (FRAME, "lms.here.speed"),
    "lms.<LM>.adapter": (FRAME, "lms.here.adapter"),
    "tools.<tool>": (FRAME, "tools.find"),
    "tools.<tool>.http": (FRAME, "tools.look.http"),
    "tools.<tool>.mcp": (FRAME, "tools.served.mcp"),
    "tools.<tool>.search": (FRAME, "tools.books.search"),
    "tools.<tool>.search.corpus": (FRAME, "tools.hub.search.corpus"),
    "steps.<step>": (FRAME, "steps.classify"),
    "steps.<step>.repeat": (FRAME, "steps.loop.repeat"),
    "steps.<step>.state.<state variable>": (FRAME, "steps.loop.state.notes"),
    "steps.<step>.next.<state variable>": (FRAME, "steps.loop.next.notes"),
    "metrics.<metric>": (FRAME, "metrics.right"),
    "data.fractions": (ONE, "data.fractions"),
    "tests.<test>": (FRAME, "tests.refunds"),
    "tests[]": (ONE, "tests.0"),
    "tests.<test>.expect.<output>": (FRAME, "tests.refunds.expect.label"),
    "tests[].expect.<output>": (FRAME, "tests.refunds.expect.label"),
    "export.traces": (ONE, "export.traces"),
}
NUMBERS = ("within", "at_least", "at_most")
KEYS: dict[str, Place] = {
    # Keys that have no meaning where the others of their section stand.
    **dict.fromkeys(("modules", "ensemble", "tests"), (ONE, "")),
    "type.type": (FRAME, "inputs.topics"),
    "type.enum": (FRAME, "modules.critique.outputs.note"),
    "type.private": (PRIVATE, "modules.rewrite.inputs.text"),
    "type.declassify": (PRIVATE, "modules.rewrite.outputs.request"),
    "lms.<LM>.speed": (FRAME, "lms.here"),
    **dict.fromkeys((f"tools.<tool>.{key}" for key in ("http", "answer_mb")), (FRAME, "tools.look")),
    "tools.<tool>.mcp": (FRAME, "tools.served"),
    "tools.<tool>.http.openapi": (FRAME, "tools.described.http"),
    "tools.<tool>.http.operation": (FRAME, "tools.described.http"),
    "tools.<tool>.search.columns": (FRAME, "tools.books.search"),
    "tools.<tool>.only": (FRAME, "tools.whole"),
    "tools.<tool>.mcp.resource": (FRAME, "tools.part.mcp"),
    "tools.<tool>.mcp.prompt": (FRAME, "tools.words.mcp"),
    "tools.<tool>.mcp.url": (FRAME, "tools.away.mcp"),
    "tools.<tool>.mcp.headers": (FRAME, "tools.away.mcp"),
    "modules.<module>.decoding": (FRAME, "modules.local"),
    "steps.<step>.tool": (FRAME, "steps.find"),
    "steps.<step>.value": (FRAME, "steps.valued"),
    **dict.fromkeys((f"steps.<step>.{key}" for key in ("program", "lms")), (FRAME, "steps.judged")),
    **dict.fromkeys((f"steps.<step>.{key}" for key in ("when", "else")), (FRAME, "steps.maybe")),
    **dict.fromkeys((f"steps.<step>.{key}" for key in ("foreach", "at_most", "max_parallel")), (FRAME, "steps.each")),
    **dict.fromkeys((f"steps.<step>.{key}" for key in ("repeat", "state", "steps", "next")), (FRAME, "steps.loop")),
    "steps.<step>.next.<state variable>.set": (FRAME, "steps.loop.next.score"),
    **dict.fromkeys((f"metrics.<metric>.{key}" for key in ("program", "lms")), (FRAME, "metrics.judged")),
    "metrics.<metric>.value": (FRAME, "metrics.both"),
    **dict.fromkeys((f"data.{key}" for key in ("test", "fractions")), (ONE, "data")),
    "data.train.private": (PRIVATE, "data.train"),
    **dict.fromkeys((f"tests.<test>.{key}" for key in ("data", "metric", "at_least")), (FRAME, "tests.gate")),
    **dict.fromkeys((f"tests[].{key}" for key in ("inputs", "expect", "assert")), (ONE, "tests.1")),
    **dict.fromkeys(
        (f"{path}.expect.<output>.{key}" for path in ("tests[]", "tests.<test>") for key in NUMBERS),
        (FRAME, "tests.refunds.expect.score"),
    ),
    **dict.fromkeys(
        (f"{path}.expect.<output>.partial" for path in ("tests[]", "tests.<test>")),
        (FRAME, "tests.refunds.expect.place"),
    ),
}
BESIDE: dict[str, dict[str, Any]] = {
    # What stands beside a key, where its program has no such mapping: by key, else by section.
    "lms.<LM>.price": {"input": 1, "output": 1},
    "lms.<LM>.speed": {"input": 1, "output": 1},
    "lms.<LM>.adapter": {"path": "hf://owner/name@0123456789abcdef0123456789abcdef01234567"},
    "lms.<LM>.adapter_store": {"write": "s3://bucket/run", "read": "/mnt/run"},
    "modules.<module>.prompt": {"system": "{{ instructions }}", "user": "{{ text }}"},
    "modules.<module>.demos": {"nearest": 1, "of": [{"text": "a", "label": "refund"}, {"text": "b", "label": "other"}]},
    "steps.<step>.repeat": {"until": "steps.critique.score > 5", "at_most": 3},
    "data.train": {"path": "train.jsonl"},
    **{f"{path}.expect.<output>.within": {"equals": 1} for path in ("tests[]", "tests.<test>")},
    "data.train.split": {"hf": "owner/name"},
}
OTHERWISE = {
    "metrics.<metric>.metric": "no package has a metric `closeness`",
    "lms.<LM>.load": "is for models that are read from their files here",
    "optimize.batch": "has no batches that lmprog knows how to ask for",
}
"""Errors of examples that need another package, or another model than that of the program here."""


def described(key: Key) -> bool:
    return bool(key.about and key.type and key.example and (key.needed or key.default))


def test_every_key_has_its_meaning_type_default_and_example() -> None:
    assert [key.path for key in keys() if not described(key)] == []


def test_every_record_of_the_language_has_its_section() -> None:
    """The reference is walked by paths; here all shapes are walked, however they hang together."""
    found: set[int] = set()
    shapes: list[Shape] = [PROGRAM, LONG_FORM]
    counted = 0
    while shapes:
        shape = shapes.pop()
        if id(shape) in found:
            continue
        found.add(id(shape))
        if isinstance(shape, Lazy):
            shapes.append(shape.shape())
        elif isinstance(shape, Record):
            counted += len(shape.keys)
            shapes.extend(shape.keys.values())
        elif isinstance(shape, MapOf):
            shapes.append(shape.value)
        elif isinstance(shape, ListOf):
            shapes.append(shape.item)
        elif isinstance(shape, Either):
            shapes.extend(part for part in (shape.scalar, shape.sequence, shape.mapping) if part is not None)
        elif isinstance(shape, Nullable):
            shapes.append(shape.shape)
        elif isinstance(shape, Anything) and shape.known is not None:
            shapes.append(shape.known)
    ours = [key for key in keys() if not key.section.startswith(STAGES)]
    assert len(ours) == counted
    assert len({key.path for key in ours}) == len(ours)


def test_editors_are_shown_the_same() -> None:
    text = json.dumps(schema())
    for key in keys():
        if not key.section.startswith(STAGES) and key.path != "lmprog":
            assert json.dumps(key.about)[1:-1] in text, key.path
            assert json.dumps(yaml.safe_load(key.example)) in text, key.path


def test_types_are_in_words() -> None:
    assert {key.type for key in keys() if "object at" in key.type or "Shape" in key.type} == set()
    assert type_text(PROGRAM.keys["lmprog"]) == "whole number"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reference")
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home


OURS = [key for key in keys() if not key.section.startswith(STAGES)]


def framed(key: Key) -> dict[str, Any]:
    """Return a program with the example of a key at its place, and without what excludes the key."""
    named = key.section.replace("<LM>", "student").replace("<module>", "classify")
    program, path = KEYS.get(key.path) or SECTIONS.get(key.section) or (FRAME, named)
    program = copy.deepcopy(program)
    node: Any = program
    for part in path.split(".") if path else ():
        inner = node[int(part)] if isinstance(node, list) else node.get(part)
        if not isinstance(inner, dict | list):
            inner = node[part] = dict(BESIDE.get(key.path) or BESIDE.get(key.section, {}))
        node = inner
    if key.needed.startswith("exactly one"):
        for other in OURS:
            if other.section == key.section and other.needed == key.needed:
                node.pop(other.name, None)
    value, before = yaml.safe_load(key.example), node.get(key.name)
    node[key.name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return program


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.path)
def test_an_example_passes_the_check(key: Key, folder: Path) -> None:
    program = framed(key)
    (folder / "program.yaml").write_text(json.dumps(program))
    found = compile_file(folder / "program.yaml", stage_configs=options_of).findings
    errors = [finding.message for finding in found if finding.severity == "error"]
    if key.path in OTHERWISE:
        assert len(errors) == 1 and OTHERWISE[key.path] in errors[0]
    else:
        assert errors == [], json.dumps(program)


@pytest.mark.parametrize("key", [key for key in keys() if key.section.startswith(STAGES)], ids=lambda key: key.path)
def test_an_example_of_an_option_passes_the_check(key: Key, folder: Path) -> None:
    stage, *inside = key.section.removeprefix(f"{STAGES}.").split(".")
    options: Any = {key.name: yaml.safe_load(key.example)}
    for part in reversed(inside):
        if part == "teachers[]":
            options = [{"program": "./big.yaml", **options}]
        options = {part.removesuffix("[]"): options}
    if stage == "ensemble":
        program = {name: ONE[name] for name in ONE if name != "ensemble"}
        program["optimize"] = {"metric": "right", "stages": ["bootstrap", {stage: options}]}
    else:
        program = {**FRAME, "optimize": {**FRAME["optimize"], "stages": [{stage: options}]}}
    if "job" in (*inside, key.name):  # of a model that its provider trains
        program = {**program, "lms": {**FRAME["lms"], "here": {"model": "openai/gpt-4.1-mini"}}}
    (folder / "program.yaml").write_text(json.dumps(program))
    found = compile_file(folder / "program.yaml", stage_configs=options_of).findings
    assert [finding.message for finding in found if finding.severity == "error"] == []
