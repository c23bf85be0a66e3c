"""The drawing of a program: each box below what it reads, none upon another, and a line from each box that it reads."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.reports.page.graph import MOST, Graph, graph_of

ROOT = Path(__file__).parents[4]
SPECS = sorted((ROOT / "tests" / "specs" / "good").glob("*.yaml"))


def drawn(spec: Path) -> Graph:
    plan = compile_file(spec, data=False).plan
    assert plan is not None
    graph = graph_of(plan)
    assert graph is not None
    return graph


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_boxes_stand_below_what_they_read_and_apart(spec: Path) -> None:
    graph = drawn(spec)
    boxes = {box.name: box for box in graph.boxes}
    for above, below in graph.edges:
        assert boxes[above].y + boxes[above].height < boxes[below].y
    for one, other in combinations(graph.boxes, 2):
        beside = one.x + one.width < other.x or other.x + other.width < one.x
        assert beside or one.y + one.height < other.y or other.y + other.height < one.y
    assert all(box.x >= 0 and box.x + box.width <= graph.width for box in graph.boxes)
    assert all(box.y >= 0 and box.y + box.height <= graph.height for box in graph.boxes)
    assert len(graph.paths) == len(graph.edges)


def test_what_a_step_reads_leads_to_it(write) -> None:
    graph = drawn(
        write("""
        lmprog: 1
        lms: {m: {model: openai/x}}
        inputs: {text: str, list: "list[str]"}
        modules: {say: {lm: m, inputs: {text: str}, outputs: {said: str}}}
        steps:
          each: {module: say, foreach: "${{ inputs.list }}", with: {text: "${{ item }}"}}
          loop:
            repeat: 3
            state: {said: {type: str, start: "${{ inputs.text }}"}}
            steps: {again: {module: say, with: {text: "${{ state.said }}"}}}
            next: {said: {set: "${{ steps.again.said }}"}}
          maybe: {module: say, when: "inputs.text != ''", with: {text: "${{ steps.loop.said }}"}}
        outputs: {said: "${{ steps.maybe.said }}", all: "${{ steps.each.said }}"}
        """)
    )
    assert set(graph.edges) == {
        ("inputs.list", "each"),
        ("inputs.text", "loop"),
        ("inputs.text", "maybe"),
        ("loop", "maybe"),
        ("maybe", "outputs.said"),
        ("each", "outputs.all"),
    }
    lines = {box.name: list(box.lines) for box in graph.boxes}
    assert lines["loop"] == ["loop: 3 turns", "  again: say (m)"]
    assert lines["each"] == ["each: say (m) (for each)"] and lines["maybe"] == ["maybe: say (m) (if)"]


def test_too_many_steps_have_no_drawing(write) -> None:
    steps = "".join(f"  s{number}: {{value: '${{{{ inputs.n }}}}'}}\n" for number in range(MOST + 1))
    plan = compile_file(
        write(f"lmprog: 1\ninputs: {{n: int}}\nsteps:\n{steps}outputs: {{n: '${{{{ steps.s0.value }}}}'}}\n")
    ).plan
    assert plan is not None and graph_of(plan) is None
