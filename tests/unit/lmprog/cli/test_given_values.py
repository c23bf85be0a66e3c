"""Values of the command line, and what it prints for the next command: each is read as it was meant, or refused by name."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from lmprog.cli import feedback, init, rows
from lmprog.cli.check import command as check
from lmprog.cli.options import limits_of, typed
from lmprog.cli.progress import OptimizeProgress
from lmprog.cli.run import _typed
from lmprog.compiler.types.lattice import INT, STR, Enum, Optional
from lmprog.errors import UsageError
from lmprog.starter.kinds import KINDS


@pytest.mark.parametrize("amount", ["nan", "-1", "-0.5", "much"])
def test_a_budget_that_limits_nothing_is_refused(amount: str) -> None:
    with pytest.raises(click.BadParameter, match="--budget usd wants a number"):
        limits_of([f"usd={amount}"])
    assert limits_of(["usd=0", "lm_calls=inf"]) == {"usd": 0.0, "lm_calls": float("inf")}


def test_a_text_that_may_be_absent_is_taken_as_it_is_written() -> None:
    inputs = {"code": SimpleNamespace(type=Optional(STR)), "name": SimpleNamespace(type=STR)}
    inputs["count"] = SimpleNamespace(type=Optional(INT))
    program = SimpleNamespace(plan=SimpleNamespace(inputs=inputs))
    given = {"code": "007", "name": "null", "count": "007"}
    assert [_typed(program, name, text) for name, text in given.items()] == ["007", "null", 7]
    assert _typed(program, "code", "null") is None and _typed(program, "other", "7") == "7"
    assert typed(Optional(Enum(("null", "a"))), "null") == "null" and typed(Optional(Enum(("a",))), "null") is None
    line = {"types": {"code": {"optional": "str"}, "name": "str"}}
    assert [feedback._typed(line, name, "null") for name in ("code", "name", "other")] == [None, "null", None]


@pytest.mark.parametrize("name", ["rows.jsonl", "a, b: {c}.jsonl", "#1.jsonl", "1.jsonl", "true", ".5"])
def test_the_block_for_rows_is_yaml(name: str) -> None:
    made: Any = SimpleNamespace(private=["text", "the text, whole"])
    block = yaml.safe_load(rows._block(made, Path(name)))
    assert block == {"data": {"train": {"path": name, "feedback": True, "private": ["text", "the text, whole"]}}}


def test_commands_to_copy_quote_the_folder() -> None:
    choice = init.Choice(KINDS["classify"], init.EMBEDDED, None, False, False)
    commands = [line.partition("    #")[0] for line in init._next(Path("my desk"), choice).splitlines()[1:4]]
    assert all(shlex.split(command)[2].startswith("my desk/") for command in commands)


@pytest.mark.parametrize("others", [["--watch"], ["--diff"]])
def test_a_file_that_would_not_be_written_is_refused(others: list[str], tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="--also"):
        check.main(["a.yaml", *others, "--also", f"json={tmp_path / 'a.json'}"], standalone_mode=False)


def test_a_correction_that_is_no_mapping_stands_alone(tmp_path: Path) -> None:
    source = tmp_path / "feedback.jsonl"
    source.write_text('{"run": "r", "correction": "b", "correction.label": "a"}\n', encoding="utf-8")
    runs = {"r": {"id": "r", "example": 0, "types": {"label": "str"}}}
    with pytest.raises(UsageError, match="row 0: give `correction`, or the columns"):
        list(feedback._of_file(source, runs, tmp_path / "trace.jsonl"))


def test_no_part_of_a_path_is_taken_for_a_colour(capsys: pytest.CaptureFixture[str]) -> None:
    progress = OptimizeProgress()
    progress.listen({"event": "run_started", "program": "desk", "seed": 0, "run_dir": "runs/[red]/a"})
    progress.listen({"event": "note", "text": r"a \[bold] word"})
    said = capsys.readouterr().err
    assert "kept in runs/[red]/a" in said and r"a \[bold] word" in said
