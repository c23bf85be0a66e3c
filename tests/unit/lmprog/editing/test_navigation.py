"""Definitions, references and renaming, in one file and in all files of a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmprog.editing.navigation import (
    RENAMED,
    CannotRename,
    Location,
    definitions,
    edited,
    mention_at,
    references,
    renamable,
    renamed,
)
from lmprog.editing.session import Session
from tests.unit.lmprog.editing.editor_programs import PROGRAMS, ROOT, at, opened

IDS = [str(path.relative_to(ROOT)) for path in PROGRAMS]


@pytest.mark.parametrize("path", PROGRAMS, ids=IDS)
def test_every_name_of_a_program_has_a_definition(path: Path) -> None:
    session = opened(path)
    for mention in session.mentions(path):
        assert mention.exact
        found = definitions(session, path, mention.place.line, mention.place.column)
        assert found, f"{mention.name} in line {mention.place.line}"
        if mention.symbol[0] != "tools":  # the arguments and results of tools may be nowhere in the file
            line = session.text(found[0].path).line(found[0].line)
            assert line[found[0].column - 1 :].startswith(mention.name)


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=IDS)
def test_a_name_that_is_changed_everywhere_leaves_the_program_without_findings(path: Path) -> None:
    session = opened(path)
    every = [one for one in session.mentions(path) if one.symbol[0] in RENAMED and len(one.symbol) == 2]
    symbols = {(one.symbol, one.program): one for one in every}
    before = [finding.code for finding in session.checked(path).compilation.findings]
    for mention in symbols.values():
        try:
            edits = renamed(session, path, mention.place.line, mention.place.column, "zz_other")
        except CannotRename as error:
            assert "teacher" in str(error)  # another program must have modules of the same names
            continue
        changed = Session(imports=False, texts={file: edited(session.text(file), own) for file, own in edits.items()})
        assert [finding.code for finding in changed.check(path).compilation.findings] == before, mention
        every = changed.mentions(path)
        own = (mention.symbol, mention.program)
        assert own not in {(one.symbol, one.program) for one in every}
        same = sum((one.symbol, one.program) == own for one in session.mentions(path))
        assert sum(one.name == "zz_other" for one in every) == same


BASE = """\
lmprog: 1
inputs: {text: str}
outputs: {label: "${{ steps.ask.label }}"}
vars: {mood: kind}
lms: {m: {model: openai/none}}
modules:
  ask:
    lm: m
    inputs: {text: str}
    outputs: {label: str}
    prompt: {user: "Be {{ vars.mood }}: {{ text }}"}
steps:
  ask: {module: ask, with: {text: "${{ inputs.text }}"}}
  loop:
    repeat: 2
    state: {seen: {type: str, start: "a"}}
    steps:
      inner: {module: ask, with: {text: "${{ state.seen }}"}, needs: []}
      after: {value: steps.inner.label, needs: [inner]}
    next: {seen: {set: "${{ steps.after.value }}"}}
"""
OVERLAY = """\
extends: ./base.yaml
lmprog: 1
modules:
  ask: {instructions: Say which.}
optimize: {metric: right, stages: [bootstrap], tune: {ask: [instructions]}}
"""


@pytest.fixture
def family(write: Callable[..., Path]) -> tuple[Session, Path, Path]:
    base, overlay = write(BASE, "base.yaml"), write(OVERLAY, "over.yaml")
    session = Session(imports=False, folders=(base.parent,))
    return session, base.resolve(), overlay.resolve()


def place(session: Session, path: Path, words: str) -> tuple[int, int]:
    """Return the place of the mark in some words of a file."""
    plain, offset = at(words)
    text = session.text(path)
    return text.place(text.raw.index(plain) + offset)


def test_an_overlay_takes_part_whichever_file_is_open(family: tuple[Session, Path, Path]) -> None:
    session, base, overlay = family
    from_base = references(session, base, *place(session, base, "¦ask:\n    lm"))
    from_overlay = references(session, overlay, *place(session, overlay, "¦ask: {instr"))
    assert set(from_base) == set(from_overlay)
    assert {(one.path.name, one.line) for one in from_base} == {
        ("base.yaml", 7),
        ("base.yaml", 13),
        ("base.yaml", 18),
        ("over.yaml", 4),
        ("over.yaml", 5),
    }
    edits = renamed(session, overlay, *place(session, overlay, "tune: {¦ask"), "judge")
    assert {path.name: len(own) for path, own in edits.items()} == {"base.yaml": 3, "over.yaml": 2}


def test_the_definition_of_an_overlays_name_is_in_its_base(family: tuple[Session, Path, Path]) -> None:
    session, base, overlay = family
    assert definitions(session, overlay, *place(session, overlay, "./ba¦se.yaml")) == [Location(base, 1, 1, 1)]
    session.texts[overlay] = OVERLAY + "data: {dev: rows.jsonl}\nmetrics: {right: {value: len(outputs.label) + 0.0}}\n"
    found = definitions(session, overlay, *place(session, overlay, "outputs.¦label"))
    assert [(one.path, one.line) for one in found] == [(base, 3)]


def test_steps_of_loops_are_found_by_their_level(family: tuple[Session, Path, Path]) -> None:
    session, base, _ = family
    found = references(session, base, *place(session, base, "      ¦inner"))
    assert [one.line for one in found] == [18, 19, 19]
    (state,) = definitions(session, base, *place(session, base, "state.¦seen"))
    assert state.line == 16
    (value,) = definitions(session, base, *place(session, base, "steps.after.¦value"))
    assert session.text(base).line(19)[value.column - 1 :].startswith("value")


@pytest.mark.parametrize(
    ("words", "name", "why"),
    [
        ("outputs: {la¦bel: str}\n    prompt", "other", "may stand in data"),
        ("¦lmprog: 1", "other", "no name"),
        ("  ¦ask: {module", "in ner", "cannot be a name"),
        ("  ¦ask: {module", "loop", "is defined already"),
        ("  ¦ask: {module", "inner", "is defined already"),  # a step in a loop may not have the id of one around it
        ("      ¦inner", "ask", "is defined already"),
        ("      ¦inner", "after", "is defined already"),
    ],
)
def test_names_that_cannot_be_changed_say_why(
    family: tuple[Session, Path, Path], words: str, name: str, why: str
) -> None:
    session, base, _ = family
    with pytest.raises(CannotRename, match=why):
        renamed(session, base, *place(session, base, words), name)


def test_nothing_is_renamed_while_a_file_cannot_be_read(family: tuple[Session, Path, Path]) -> None:
    session, base, overlay = family
    session.texts[overlay] = OVERLAY + "vars: {a: [\n"
    assert renamable(session, base, *place(session, base, "  ¦ask: {module")).name == "ask"
    with pytest.raises(CannotRename, match=r"over\.yaml cannot be read"):
        renamed(session, base, *place(session, base, "  ¦ask: {module"), "other")


def test_names_in_escaped_texts_are_found_where_they_stand(write: Callable[..., Path]) -> None:
    text = BASE.replace('"${{ steps.ask.label }}"', '"${{ join([\\"é😀\\", steps.ask.label], \\"\\") }}"')
    path = write(text).resolve()
    session = opened(path)
    edits = renamed(session, path, *place(session, path, "  ¦ask: {module"), "first")
    assert "steps.first.label" in edited(session.text(path), edits[path])
    folded = BASE.replace('"${{ steps.ask.label }}"', '"${{ \\\n    st\\x65ps.\\x61sk.label }}"')
    session.texts[path] = folded
    with pytest.raises(CannotRename, match="escaped"):
        renamed(session, path, *place(session, path, "  ¦ask: {module"), "first")


def test_files_that_a_program_names_are_opened_at_the_function(write: Callable[..., Path]) -> None:
    write("import os\n\n\ndef right(label: str) -> bool:\n    return True\n", "scores.py")
    path = write("lmprog: 1\nmetrics: {right: {python: ./scores.py:right, with: {}}}\n").resolve()
    session = Session(imports=False)
    (found,) = definitions(session, path, *place(session, path, "./sco¦res.py"))
    assert (found.path.name, found.line) == ("scores.py", 4)


def test_inputs_of_a_sub_program_are_defined_in_its_file(write: Callable[..., Path]) -> None:
    write("lmprog: 1\ninputs: {query: str}\noutputs: {found: '${{ inputs.query }}'}\nsteps: {}\n", "sub.yaml")
    path = write(
        "lmprog: 1\nsteps:\n  go: {program: ./sub.yaml, with: {query: a}}\noutputs: {x: '${{ steps.go.found }}'}\n"
    ).resolve()
    session = opened(path)
    for words, line in (("with: {¦query", 2), ("go.¦found", 3), ("./sub¦.yaml", 1)):
        (found,) = definitions(session, path, *place(session, path, words))
        assert (found.path.name, found.line) == ("sub.yaml", line)
    assert mention_at(session, path, 1, 1) is None


@pytest.mark.parametrize(("imports", "callers"), [(True, ["outside.yaml"]), (False, [])])
def test_links_that_lead_outside_of_a_strangers_workspace_are_not_read(
    tmp_path: Path, imports: bool, callers: list[str]
) -> None:
    workspace = tmp_path / "checkout"
    (workspace / ".git").mkdir(parents=True)
    base = workspace / "base.yaml"
    base.write_text("lmprog: 1\n")
    (tmp_path / "outside.yaml").write_text("lmprog: 1\nsteps: {a: {program: ./checkout/base.yaml}}\n")
    (workspace / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    session = Session(imports=imports, folders=(workspace,))
    assert [file.name for file in session.callers([base])] == callers
