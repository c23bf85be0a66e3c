"""An overlay may choose another of alternatives that exclude each other, anywhere in the language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.language import PROGRAM
from lmprog.compiler.shape import Either, Lazy, MapOf, Nullable, Record, Shape
from lmprog.compiler.yaml.laying import given_up, merged
from lmprog.compiler.yaml.source import Mapping, Source, from_plain


def records(shape: Shape, path: tuple[str, ...] = (), around: tuple[str, ...] = ()) -> Iterator[tuple[str, Record]]:
    """Yield every record that mappings of an overlay reach, with its place; lists replace as wholes."""
    if isinstance(shape, Lazy):
        if shape.name not in around:
            yield from records(shape.shape(), path, (*around, shape.name))
    elif isinstance(shape, Either) and shape.mapping is not None:
        yield from records(shape.mapping, path, around)
    elif isinstance(shape, Nullable):
        yield from records(shape.shape, path, around)
    elif isinstance(shape, MapOf):
        yield from records(shape.value, (*path, "x"), around)
    elif isinstance(shape, Record):
        yield ".".join(path), shape
        for key, part in shape.keys.items():
            yield from records(part, (*path, key), around)


CHOOSING = {place: record for place, record in records(PROGRAM) if len(record.groups) > 1}
PAIRS = [
    pytest.param(place, lower, upper, id=f"{place}: {'+'.join(lower)} -> {'+'.join(upper)}")
    for place, record in CHOOSING.items()
    for lower in record.groups
    for upper in record.groups
    if lower != upper
]


def test_the_table_has_every_group_of_alternatives() -> None:
    assert CHOOSING.keys() >= {
        "tools.x", "tools.x.mcp", "tools.x.http", "metrics.x", "data.train", "data.fractions.from", "steps.x",
        "steps.x.next.x", "ensemble", "tests.x",
    }  # fmt: skip
    assert len(PAIRS) > 60


@pytest.mark.parametrize(("place", "lower", "upper"), PAIRS)
def test_what_excludes_another_replaces_it_with_what_stands_beside_it(
    place: str, lower: tuple[str, ...], upper: tuple[str, ...]
) -> None:
    record = CHOOSING[place]
    deciding = {key for group in record.groups for key in group}
    beside = {key for key in record.keys if key not in deciding and set(lower) & {*record.only.get(key, lower)}}
    below, above = {*lower, *beside}, {*upper}
    if all(lower[0] in record.only.get(key, ()) for key in upper):  # it may stand beside the lower form: an addition
        assert not given_up(record, below, above)
        return
    kept = {key for key in beside if upper[0] in record.only.get(key, upper)}
    assert below - given_up(record, below, above) == kept
    assert not given_up(record, below, beside)  # what only stands beside a choice changes none
    assert not given_up(record, below, {*lower})  # and neither does the same choice
    assert not given_up(record, below, {*lower, *upper})  # a check says that both are there


BASE = """
lmprog: 1
name: base
inputs: {q: str, x: {enum: [a, b], private: true}}
outputs: {a: "${{ steps.s.a }}"}
vars: {free: {command: [c], url: u}}
lms: {lm: {model: openai/gpt-4o-mini}}
modules: {m: {lm: lm, inputs: {q: str}, outputs: {a: str}, instructions: Say it.}}
tools:
  t: {mcp: {command: [server], env: {A: b}, tool: find, output: str}, trusted: true}
  h: {http: {url: "http://127.0.0.1:1/{q}", inputs: {q: str}, output: str}}
steps:
  s: {module: m, with: {q: "${{ inputs.q }}"}}
  u: {tool: t}
  w: {tool: h, with: {q: "${{ inputs.q }}"}}
  v:
    repeat: 2
    state: {n: {type: "list[str]", start: []}}
    steps: {o: {value: "${{ inputs.x }}"}}
    next: {n: {append: "${{ steps.o.value }}"}}
data: {train: {path: rows.jsonl, limit: 5}, dev: dev.jsonl}
metrics:
  k: {python: "./metrics.py:k", with: {a: "${{ outputs.a }}"}}
  j: {value: "${{ metrics.k }}"}
tests: {e: {inputs: {q: hi, x: a}, expect: {a: hi}}}
"""
OVERLAYS = [
    "tools: {t: {mcp: {url: 'http://127.0.0.1:2/mcp'}}}",
    "tools: {t: {python: './metrics.py:t'}}",
    "tools: {h: {http: {openapi: api.json, operation: find}}}",
    "metrics: {k: {value: '1.0'}}",
    "metrics: {k: {program: judge.yaml}}",
    "metrics: {j: {python: './metrics.py:k', with: {a: '${{ outputs.a }}'}}}",
    "data: {train: {hf: owner/name, split: train}}",
    "steps: {u: {value: '${{ inputs.q }}'}}",
    "steps: {u: {module: m, with: {q: '${{ inputs.q }}'}}}",
    "steps: {v: {next: {n: {set: '${{ [steps.o.value] }}'}}}}",
    "steps: {v: {value: '${{ inputs.q }}'}}",
    "tests: {e: {data: dev, metric: k, at_least: 0.5}}",
    "inputs: {x: {type: str}}",
]


@pytest.fixture
def laid(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "rows.jsonl").write_text('{"q": "hi", "x": "a"}\n')
    (tmp_path / "dev.jsonl").write_text('{"q": "ho", "x": "b"}\n')
    (tmp_path / "metrics.py").write_text(
        "def k(a: str) -> float:\n    return 1.0\n\n\ndef t() -> str:\n    return ''\n"
    )
    (tmp_path / "judge.yaml").write_text(
        "lmprog: 1\nname: judge\ninputs: {a: str}\noutputs: {score: '${{ 1.0 }}'}\nsteps: {x: {value: '1.0'}}\n"
    )
    operation = {"operationId": "find", "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}]}
    document = {"openapi": "3.0.0", "servers": [{"url": "http://127.0.0.1:3"}], "paths": {"/find": {"get": operation}}}
    (tmp_path / "api.json").write_text(json.dumps(document))

    def write(overlay: str) -> Any:
        (tmp_path / "over.yaml").write_text(f"lmprog: 1\nextends: base.yaml\n{overlay}\n")
        return compile_file(tmp_path / "over.yaml")

    return write


def excluding(found: Any) -> list[str]:
    said = ("exactly one of", "no meaning beside", "has no key", "either an example", "long form")
    return [finding.message for finding in found.findings if any(words in finding.message for words in said)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_of_a_whole_program_may_choose_another(laid, overlay: str) -> None:
    found = laid(overlay)
    assert not excluding(found)
    if "u: {module" not in overlay:  # its outputs are read by nothing
        assert found.plan is not None, [str(finding) for finding in found.findings]


def test_what_is_said_beside_a_type_stays_where_the_type_changes(laid) -> None:
    assert laid("inputs: {x: {type: str}}").plan.inputs["x"].private
    assert laid("").plan.inputs["x"].private


def test_a_server_of_an_openapi_tool_is_added_and_a_description_replaces_an_address(laid) -> None:
    settings = laid("tools: {h: {http: {openapi: api.json, operation: find}}}").plan.tools["h"].settings
    assert "url" not in settings
    both = {"openapi": "a", "operation": "b"}
    assert lay({"tools": {"h": {"http": both}}}, {"tools": {"h": {"http": {"url": "u"}}}}) == {
        "tools": {"h": {"http": {**both, "url": "u"}}}
    }


@pytest.mark.parametrize(
    "place",
    [
        "vars.free",
        "lms.lm.params",
        "steps.s.with.q",
        "tests.e.inputs.q",
        "lms.lm.headers",
        "modules.m.demos",
        "tuned.x",
    ],
)
@pytest.mark.parametrize(
    ("lower", "upper"), [("command", "url"), ("module", "tool"), ("python", "value"), ("path", "hf")]
)
def test_keys_of_the_author_exclude_nothing(place: str, lower: str, upper: str) -> None:
    """They may have any names, those of alternatives of the language too."""

    def within(value: Any) -> dict[str, Any]:
        for key in reversed(place.split(".")):
            value = {key: value}
        return value

    assert lay(within({lower: "a"}), within({upper: "b"})) == within({lower: "a", upper: "b"})


def lay(below: dict[str, Any], above: dict[str, Any]) -> Any:
    source = Source(Path("a.yaml"), "a.yaml", "", Path())
    lower, upper = from_plain(below, source), from_plain(above, source)
    assert isinstance(lower, Mapping) and isinstance(upper, Mapping)
    return merged(lower, upper).plain()
