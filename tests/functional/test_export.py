"""`lmprog export` of prompts: where they are written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BASE = """
lmprog: 1
name: desk
inputs: {text: str}
lms: {m: {model: openai/gpt-4.1-mini, params: {max_tokens: 5}}}
modules:
  sort: {lm: m, inputs: {text: str}, outputs: {kind: {enum: [a, b]}}, instructions: Sort it.}
  mend: {lm: m, inputs: {text: str, kind: str}, outputs: {better: str}}
steps:
  sort: {module: sort, with: {text: "${{ inputs.text }}"}}
  mend: {module: mend, with: {text: "${{ inputs.text }}", kind: "${{ steps.sort.kind }}"}}
outputs: {better: "${{ steps.mend.better }}"}
"""
OVERLAY = """
lmprog: 1
extends: ./desk.yaml
modules: {sort: {instructions: Sort it well., demos: [{text: x, kind: b}]}}
"""
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tuned(write: Callable[..., Path]) -> Path:
    write(BASE, "desk.yaml")
    return write(OVERLAY, "desk.tuned.yaml")


def test_an_overlay_is_exported_with_what_was_tuned(cli: Cli, tuned: Path, tmp_path: Path) -> None:
    status, out, err = cli("export", tuned, "--messages", "--module", "sort")
    request = json.loads(out)["modules"]["sort"]["request"]
    assert (status, err, request["model"], request["max_tokens"]) == (0, "", "gpt-4.1-mini", 5)
    assert [turn["content"] for turn in request["messages"]][1:] == ["x", "b", "{{ text }}"]
    assert request["messages"][0]["content"].startswith("Sort it well.")
    status, _, err = cli("export", tuned, "--jinja", "-o", tmp_path / "out")
    assert (status, sorted(path.name for path in (tmp_path / "out").iterdir())) == (0, ["mend.jinja", "sort.jinja"])
    status, out, _ = cli("export", tuned, "--python", "--set", "modules.sort.instructions=Other.")
    space: dict[str, Any] = {}
    exec(out, space)
    assert (status, space["sort"](text="t")["messages"][0]["content"].split("\n")[0]) == (0, "Other.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "name one form: --messages, --jinja, --langchain, --python or --merged DIR"),
        (["--jinja", "--python"], "name one form"),
        (["--merged", "here", "-o", "there"], "takes neither --module nor --out"),
        (["--python", "--module", "sorted"], "desk calls no module 'sorted'; did you mean `sort`"),
        (["--python", "-o", "desk.yaml"], "exists already, so nothing was written"),
        (["--jinja", "-o", "."], "exists already, so nothing was written"),
    ],
)
def test_what_is_refused(cli: Cli, tuned: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str) -> None:
    monkeypatch.chdir(tuned.parent)
    status, out, err = cli("export", tuned, *given)
    assert (status, out) == (2, "") and said in err
    assert tuned.with_name("desk.yaml").read_text() == BASE.lstrip("\n")
