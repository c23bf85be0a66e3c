"""What a check does grows with the file and not with a product of its parts; counted, and not timed."""

from __future__ import annotations

import json
from pathlib import Path

from lmprog.compiler import compile_file
from lmprog.compiler.bounds import bounds
from lmprog.compiler.types.lattice import Enum, mismatch

compared = 0


class Label(str):
    """A text that counts how often it is compared."""

    def __eq__(self, other: object) -> bool:
        global compared
        compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_label_is_looked_up_and_not_searched() -> None:
    kind = Enum(tuple(Label(f"label {number}") for number in range(2000)))
    assert all(mismatch(f"label {number}", kind) is None for number in range(2000))
    assert compared < 10_000
    assert len(mismatch("another", kind) or "") < 400


def test_a_finding_in_a_long_line_shows_the_part_around_its_place(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(
        f"lmprog: 1\nname: long\nvars: {{words: [{', '.join(['a'] * 5000)}, yes, {', '.join(['b'] * 5000)}]}}\n"
    )
    found = compile_file(path).findings
    warned = next(finding for finding in found if finding.code == "LMP102")
    lines = str(warned).splitlines()
    assert len(str(warned)) < 1500 and lines[1].index("yes") == lines[2].index("^")


def test_a_foreach_over_known_rows_is_bounded_by_them(tmp_path: Path) -> None:
    rows = [{"words": ["a"] * count} for count in (2, 20, 7)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = """lmprog: 1
name: each
inputs: {words: "list[str]"}
lms: {m: {model: openai/none}}
modules: {ask: {lm: m, inputs: {word: str}, outputs: {said: str}}}
steps:
  each: {module: ask, foreach: "${{ inputs.words }}", with: {word: "${{ item }}"}}
outputs: {said: "${{ steps.each.said }}"}
"""
    path = tmp_path / "each.yaml"
    path.write_text(text)
    plan = compile_file(path).plan
    assert plan is not None and not bounds(plan).bounded and bounds(plan).total_calls == 1
    path.write_text(text + "data: {dev: dev.jsonl}\n")
    plan = compile_file(path).plan
    assert plan is not None and bounds(plan).bounded and bounds(plan).total_calls == 20
