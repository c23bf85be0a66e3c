"""Tests of the texts that a notebook shows: short texts, escaped tables, and a bar in a kernel alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import lmprog
from lmprog import Completion, Request
from lmprog.boundary.notebook import NotebookBar, table
from lmprog.optimizers.run import Tuned

SPEC = """
lmprog: 1
name: desk
lms: {lm: {model: openai/x}}
modules: {sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: "Sort <b>."}}
data: {dev: dev.jsonl, test: test.jsonl}
metrics: {exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}}}
"""
EVIL = "<script>alert(1)</script>\u202e"


class Says:
    async def complete(self, request: Request) -> Completion:
        return Completion(text=EVIL if request.messages[-1]["content"] == "2" else "refund")


@pytest.fixture
def program(tmp_path: Path) -> lmprog.Program:
    (tmp_path / "metrics.py").write_text("def exact(label, wanted):\n    return label == wanted\n")
    for split in ("dev", "test"):
        rows = "".join(f'{{"text": "{row}", "label": "refund"}}\n' for row in range(4 if split == "test" else 2))
        (tmp_path / f"{split}.jsonl").write_text(rows)
    (tmp_path / "program.yaml").write_text(SPEC)
    return lmprog.load(tmp_path / "program.yaml", lms={"lm": Says()})


def test_reprs_are_short(program: lmprog.Program) -> None:
    assert repr(program) == "Program(desk: text -> label; lm=openai/x)"
    assert repr(program(text="1")) == "Result(outputs={'label': 'refund'}, calls=1)"
    assert repr(lmprog.evaluate(program)) == "Scores(exact 75.0% [30.1, 95.4], rows=4, errors=0)"
    report = {"stages": [], "test": None}
    assert repr(Tuned(Path("a.yaml"), report)) == "Tuned('a.yaml', not scored on test rows)"


def test_all_texts_in_tables_are_escaped(program: lmprog.Program) -> None:
    scores = lmprog.evaluate(program)
    run = {"mean": 0.5, "ci95": [0.25, 0.75]}
    report = {
        "stages": [{"stage": EVIL, "validate": run, "test": None}],
        "test": {"metric": EVIL, "n": 3, "before": run, "after": run},
    }
    shown = [
        program._repr_html_(),
        program(text="2")._repr_html_(),
        scores._repr_html_(),
        Tuned(Path(EVIL), report)._repr_html_(),
        table(EVIL, [(EVIL, EVIL)], (EVIL, EVIL)),
    ]
    for page in shown:
        assert "<script" not in page and "\u202e" not in page and page.startswith("<table><caption>")
    assert all("&lt;script" in page for page in shown[1:]) and "Sort &lt;b&gt;." in shown[0]


def test_a_part_of_a_split_is_scored(program: lmprog.Program) -> None:
    assert len(lmprog.evaluate(program, split="dev").rows) == 2
    assert len(lmprog.evaluate(program, limit=3).rows) == 3
    assert lmprog.evaluate(program, [{"text": "1", "label": "refund"}]).mean == 1.0
    assert lmprog.evaluate(program, split="dev", metric=["exact"])["exact"].mean == 1.0
    with pytest.raises(lmprog.UsageError, match="not both"):
        lmprog.evaluate(program, [], split="dev")
    with pytest.raises(lmprog.UsageError, match="no data split 'train'"):
        lmprog.evaluate(program, split="train")


def test_a_notebook_has_a_bar(program: lmprog.Program, kernel) -> None:
    program.map([{"text": str(row)} for row in range(3)])
    assert kernel.shown[0].endswith("0 of 3") and kernel.shown[-1].endswith("3 of 3")
    kernel.shown.clear()
    lmprog.evaluate(program, repeats=2)
    assert kernel.shown[-1].endswith("8 of 8")
    kernel.shown.clear()
    with NotebookBar("many", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert len(kernel.shown) == 102


def test_nothing_is_shown_elsewhere(program: lmprog.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = type("TerminalInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: terminal))
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    assert len(program.map([{"text": "1"}])) == 1
