"""Whatever is done to a spec, the compiler answers with findings or a plan, never with a traceback.

`LMPROG_MUTATIONS=20000` sets how many mutated specs are tried.
"""

from __future__ import annotations

import copy
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmprog.compiler import compile_file
from lmprog.compiler.artefacts.manifest import manifest
from lmprog.compiler.artefacts.mermaid import mermaid
from lmprog.reports import github, junit, sarif, text
from lmprog.reports import json as json_report

SPECS = Path(__file__).parents[2] / "specs"
SEEDS = [*sorted((SPECS / "good").glob("*.yaml")), *sorted((SPECS / "bad").glob("*.yaml"))]
COUNT = int(os.environ.get("LMPROG_MUTATIONS", "600"))
VALUES: list[Any] = [
    None, True, 0, -1, 3.5, 10**30, float("nan"), "", " ", "yes", "a b", "${{ inputs.text }}", "${{ }}", "${{ a",
    "${{ steps.one.label }}", "{{ text }}", "{% if", "list[str]", "str?", "list[", "x:y", "../data/train.jsonl", [], {},
    [1, "a", None], {"a": 1}, {"type": "str"}, {"enum": ["a"]}, {"enum": "${{ vars.labels }}"}, [[[]]], "é\u2028\x85",
    "${{ vars.turns }}", "${{ -'a' }}", "${{ {'a': 1}.b }}", "${{ [1][5] }}", "${{ inputs.text[0] }}", "loop.last",
]  # fmt: skip


def places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every container with one of its keys."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    for key in keys:
        found.append((node, key))
        places(node[key], found)
    return found


def mutate_tree(tree: Any, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(tree, []))
        kind = rng.randrange(5)
        if kind == 0:
            del container[key]
            if not places(tree, []):
                return
        elif kind == 1 and isinstance(container, dict):
            container[rng.choice([f"{key}x", str(key)[::-1], "type", "module", "0", ""])] = container.pop(key)
        elif kind == 2:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 3:
            _, other = rng.choice(places(tree, []))
            around, at = rng.choice(places(tree, []))
            container[key] = around[at] if around is not container else other
            _cut_circles(container, key)
        elif isinstance(container[key], str):
            container[key] = break_text(container[key], rng)


def _cut_circles(container: Any, key: Any) -> None:
    container[key] = yaml.safe_load(yaml.safe_dump(container[key])) if not _holds(container[key], container) else 1


def _holds(node: Any, wanted: Any) -> bool:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return node is wanted or any(_holds(child, wanted) for child in children)


def break_text(value: str, rng: random.Random) -> str:
    words = re.findall(r"\w+|\W+", value) or [""]
    at = rng.randrange(len(words))
    words[at] = rng.choice(["", words[at] * 2, words[at][1:], "steps", "inputs", ".", "(", "]", "'", "not ", " and "])
    return "".join(words)


def mutate_text(source: str, rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return source[: rng.randrange(len(source))]
    lines = source.split("\n")
    at = rng.randrange(len(lines))
    if kind == 1:
        del lines[at]
    elif kind == 2:
        lines[at] = break_text(lines[at], rng)
    else:
        lines[at] = " " * rng.randrange(8) + lines[at].lstrip()
    return "\n".join(lines)


def check(path: Path) -> None:
    compilation = compile_file(path)
    assert compilation.plan is not None or compilation.errors
    for render in (text.render, json_report.render, github.render, sarif.render, junit.render):
        render(compilation.findings)
    for finding in compilation.findings:
        assert finding.line >= 1 and finding.column >= 1, finding
    if compilation.plan is not None:
        manifest(compilation.plan)
        mermaid(compilation.plan)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_mutations(part: int, tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    (tmp_path / "data").symlink_to(SPECS / "data")
    (tmp_path / "good").symlink_to(SPECS / "good")
    rng = random.Random(part)
    sources = [path.read_text() for path in SEEDS]
    trees = [tree for source in sources if isinstance(tree := _loaded(source), dict)]
    for number in range(COUNT // 4):
        path = folder / f"{number}.yaml"
        if rng.random() < 0.5:
            mutated = mutate_text(rng.choice(sources), rng)
        else:
            tree = yaml.safe_load(yaml.safe_dump(rng.choice(trees)))
            mutate_tree(tree, rng)
            mutated = yaml.safe_dump(tree, sort_keys=False, allow_unicode=rng.random() < 0.5)
        path.write_text(mutated, encoding="utf-8")
        try:
            check(path)
        except Exception as error:
            raise AssertionError(f"{error!r} for:\n{mutated}") from error


def _loaded(source: str) -> Any:
    loader: Callable[..., Any] = yaml.CSafeLoader
    try:
        return yaml.load(source, Loader=loader)
    except yaml.YAMLError:
        return None
