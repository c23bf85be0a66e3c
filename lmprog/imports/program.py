"""An imported program: its spec as plain values, notes on what could not be imported, and the YAML of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.yaml.writer import dump

SECTIONS = ("inputs", "outputs", "lms", "tools", "modules", "steps", "tests")
"""The sections of an imported program, in the order in which they are written."""

MARK = "${{"
"""The beginning of an expression in a spec; a text of an imported file that contains it would be read as an expression."""


@dataclass(frozen=True)
class Note:
    """A remark (`text`) on an imported program, for the `section` of the spec that it concerns (`file`: for none).

    `mark` is its kind: `not imported`, for a part that the program lacks; `differs`, for a prompt that is not the
    original's; `check`, for a fault that keeps the program from passing the check.
    """

    section: str
    text: str
    mark: str = "not imported"


@dataclass(frozen=True)
class Imported:
    """An imported program: its name, the name of the file that it is from (`origin`), its description (None: none), the
    sections of its spec by their key as plain values (`program`), and notes.
    """

    name: str
    origin: str
    program: Mapping[str, Mapping[str, Any]]
    notes: tuple[Note, ...] = ()
    description: str | None = None

    def text(self) -> str:
        """Return the YAML of the program: a comment that names `origin`, the name, the description in one line, and
        those sections of SECTIONS that are not empty, in that order; others are left out. Each note is a comment
        above its section, or at the top where that is left out. All values must be such that `unwritable` returns
        None for them."""
        head: dict[str, Any] = {"lmprog": 1, "name": self.name}
        if self.description:
            head["description"] = " ".join(self.description.split())
        kept = [section for section in SECTIONS if self.program.get(section)]
        loose = [note for note in self.notes if note.section not in kept]
        made = f"# made by `lmprog import` from {one_line(self.origin)}\n"
        parts = [made + _comments(loose) + dump(head)]
        for section in kept:
            notes = [note for note in self.notes if note.section == section]
            parts.append(_comments(notes) + dump({section: self.program[section]}))
        return "\n".join(parts)


def identifier(text: str) -> str:
    """Return a valid name of the language made from any text: each run of characters other than ASCII letters, digits
    and `_` becomes one `_`, all `_` at the ends are dropped, and a name that is then empty or begins with a digit gets
    `_` in front. Different texts may give the same name.
    """
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


def wrapped(expression: str) -> str:
    """Return the expression written as `${{ expression }}`."""
    return f"${{{{ {expression} }}}}"


def _comments(notes: list[Note]) -> str:
    """Return the notes as YAML comments, a line each."""
    return "".join(f"# {note.mark}: {one_line(note.text)}\n" for note in notes)


def one_line(text: str) -> str:
    """Return a text in one line, for a comment: blanks and line breaks become single spaces, and characters that YAML or a
    terminal would act on become `?`.
    """
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
