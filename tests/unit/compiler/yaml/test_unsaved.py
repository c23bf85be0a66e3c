"""Texts that an editor holds, in place of files; and places in quoted texts, for those who change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.findings.finding import Report
from lmprog.compiler.types.values import scalars
from lmprog.compiler.yaml.files import reading
from lmprog.compiler.yaml.program_files import is_program, yaml_files
from lmprog.compiler.yaml.reader import parse
from lmprog.compiler.yaml.source import Source

PROGRAM = """\
lmprog: 1
extends: ./base.yaml
vars: {labels: {file: labels.txt}}
data: {dev: rows.jsonl}
metrics: {right: {value: "1.0 if outputs.said == row.wanted and outputs.said in vars.labels else 0.0"}}
"""
BASE = 'lmprog: 1\ninputs: {text: str}\noutputs: {said: "${{ inputs.text }}"}\nsteps: {}\n'


@pytest.fixture
def program(write: Callable[..., Path]) -> Path:
    write(BASE, "base.yaml")
    write("a\nb\n", "labels.txt")
    write('{"text": "a", "wanted": "a"}\n', "rows.jsonl")
    return write(PROGRAM).resolve()


def codes(program: Path, **unsaved: str) -> list[str]:
    texts = {program.parent / name.replace("__", "."): text for name, text in unsaved.items()}
    with reading(texts):
        return [finding.code for finding in compile_file(program).findings]


def test_every_kind_of_file_is_read_as_the_editor_has_it(program: Path) -> None:
    assert codes(program) == []
    assert codes(program, base__yaml=BASE.replace("inputs.text", "inputs.txet")) == ["LMP201"]
    assert codes(program, program__yaml=PROGRAM.replace("outputs.said ==", "outputs.siad ==")) == ["LMP603"]
    assert codes(program, rows__jsonl='{"text": "a", "other": "a"}\n') == ["LMP601"]
    assert codes(program, rows__jsonl="{\n") == ["LMP103"]
    assert codes(program, program__yaml=PROGRAM.replace("\n", "\r\n")) == []
    assert codes(program) == []  # the disk counts again


def test_a_file_may_be_in_the_editor_alone(program: Path) -> None:
    moved = PROGRAM.replace("base.yaml", "new.yaml").replace("labels.txt", "more.txt")
    assert codes(program, program__yaml=moved) == ["LMP103"]
    assert codes(program, program__yaml=moved, new__yaml=BASE, more__txt="a\n") == []


def test_the_files_that_are_looked_at_are_noted_whether_there_or_not(program: Path) -> None:
    with reading() as seen:
        compile_file(program, overrides={"data.test": "absent.jsonl"})
    assert {path.name for path in seen} >= {"program.yaml", "base.yaml", "labels.txt", "rows.jsonl", "absent.jsonl"}
    before = dict(seen)
    compile_file(program)
    assert seen == before  # nothing is noted when nobody asks


def test_places_in_quoted_texts_are_those_of_the_letters(tmp_path: Path) -> None:
    text = (
        'a: "x \\"q\\" \\u00e9\\n steps.z b"\nb: \'it\'\'s steps.z\'\nc: "plain steps.z"\n'
        'd: "long text\n  goes on steps.z"\ne: [ "k\\t", "\\t steps.z" ]\nf: plain\n  more steps.z\ng: |\n  in steps.z\n'
    )
    source = Source(tmp_path, "x", text, tmp_path)
    root = parse(source, Report())
    assert root is not None
    found = [scalar.at(scalar.text.index("steps"), 5) for scalar in scalars(root) if "steps" in scalar.text]
    assert len(found) == 7
    for place in found:
        line = source.line(place.line) or ""
        assert line[place.column - 1 :].startswith("steps")


def test_programs_of_a_folder_are_found_by_their_key(write: Callable[..., Path], tmp_path: Path) -> None:
    write(BASE, "b/c.yml")
    write("a: lmprog\n", "a.yaml")
    write(BASE, ".git/d.yaml")
    assert [path.relative_to(tmp_path).as_posix() for path in yaml_files(tmp_path)] == ["a.yaml", "b/c.yml"]
    assert is_program(tmp_path / "b/c.yml") and not is_program(tmp_path / "a.yaml")
