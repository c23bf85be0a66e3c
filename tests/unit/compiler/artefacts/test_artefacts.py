"""The manifest, the prompts, the graph, the diff and the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from lmprog.compiler import compile_file
from lmprog.compiler.artefacts.difference import difference
from lmprog.compiler.artefacts.manifest import manifest, write_artefacts
from lmprog.compiler.schema.language import schema
from lmprog.compiler.schema.manifest_schema import manifest_schema

ROOT = Path(__file__).parents[4]
SPECS = ROOT / "tests" / "specs"
GOOD = sorted((SPECS / "good").glob("*.yaml"))
SHAPES = sorted((SPECS / "bad").glob("LMP101_*.yaml"))


@cache
def validator(made: Callable[[], dict[str, Any]]) -> Draft202012Validator:
    """Return the validator of a schema, made once: to make a schema takes longer than to look at a file with it."""
    return Draft202012Validator(made())


def load(path: Path) -> object:
    return yaml.load(path.read_text(), Loader=yaml.CSafeLoader)


@pytest.mark.parametrize("path", [*GOOD, *sorted((ROOT / "specs").glob("*.yaml"))], ids=lambda path: path.stem)
def test_the_schema_accepts_what_the_compiler_accepts(path: Path) -> None:
    assert [error.message for error in validator(schema).iter_errors(load(path))] == []


@pytest.mark.parametrize("name", ["LMP101_unknown_key", "LMP101_wrong_shape", "LMP101_newer_version"])
def test_the_schema_refuses_wrong_shapes(name: str) -> None:
    assert list(validator(schema).iter_errors(load(SPECS / "bad" / f"{name}.yaml")))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())
    Draft202012Validator.check_schema(manifest_schema())
    modules = schema()["$defs"]["program"]["properties"]["modules"]
    assert modules["additionalProperties"]["properties"]["lm"]["description"]


def test_artefacts_are_the_same_for_the_same_input(tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        plan = compile_file(SPECS / "good" / "whole_language.yaml").plan
        assert plan is not None
        paths = write_artefacts(plan, tmp_path / folder)
        written.append({str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in paths})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "manifest.json",
        "manifest.schema.json",
        "prompts/decide.txt",
        "prompts/note.txt",
        "graph.mmd",
    }
    assert str(ROOT).encode() not in b"".join(written[0].values())


def test_the_manifest_is_plain_and_complete() -> None:
    plan = compile_file(SPECS / "good" / "hover.yaml").plan
    assert plan is not None
    told = json.loads(json.dumps(manifest(plan)))
    assert told["bounds"] == {"lm_calls": {"generate_query": 4, "append_notes": 4}, "total": 8, "bounded": True}
    assert told["steps"][0]["repeat"]["next"]["retrieved"] == {"extend": "steps.search.titles"}
    assert told["modules"]["generate_query"]["inputs"]["key_facts"]["type"] == "list[str]"
    assert told["metrics"]["recall"]["python"] == "../data/metrics.py:title_recall"


@pytest.mark.parametrize("path", [*GOOD, *sorted((ROOT / "specs").glob("*.yaml"))], ids=lambda path: path.stem)
def test_manifests_have_their_schema(path: Path) -> None:
    plan = compile_file(path).plan
    assert plan is not None
    told = json.loads(json.dumps(manifest(plan)))
    assert [error.message for error in validator(manifest_schema).iter_errors(told)] == []


def test_prompts_show_their_holes(tmp_path: Path) -> None:
    plan = compile_file(SPECS / "good" / "papillon.yaml").plan
    assert plan is not None
    write_artefacts(plan, tmp_path)
    assert (tmp_path / "prompts" / "ask_remote.txt").read_text() == "--- user\n⟨request⟩\n"


def test_difference() -> None:
    path = SPECS / "good" / "desk.yaml"
    old = compile_file(path).plan
    change = {"modules": {"classify": {"instructions": "Choose.", "demos": [{"text": "a", "label": "refund"}]}}}
    new = compile_file(path, change=change).plan
    assert old is not None and new is not None
    assert difference(old, old) == ""
    text = difference(old, new)
    assert "-Say which.\n+Choose.\n" in text
    assert "+- text: a\n+  label: refund\n" in text


# The reader of this test is one of YAML 1.1, to which the ambiguous scalars of LMP102 are no texts. A test with half the keys
# of a gate is no shape of the schema either.
FOUND_AT_ONCE = ("LMP101", "LMP102", "LMP203_checks_of_tests")
FOUND_LATER = [path for path in sorted((SPECS / "bad").glob("*.yaml")) if not path.stem.startswith(FOUND_AT_ONCE)]


@pytest.mark.parametrize("path", FOUND_LATER, ids=lambda path: path.stem)
def test_the_schema_leaves_names_and_types_to_the_compiler(path: Path) -> None:
    assert [error.message for error in validator(schema).iter_errors(load(path))] == []
