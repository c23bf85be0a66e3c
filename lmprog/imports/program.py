"""An imported program: its spec as plain values, notes on what could not be imported, and the YAML of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.yaml.writer import dump

SECTIONS = ("inputs", "outputs", "lms", "tools", "modules", "steps", "tests")

MARK = "${{"
"""The beginning of an expression in a spec: a text of another file that has it would be taken for one."""


@dataclass(frozen=True)
class Note:
    """A remark (`text`) on an imported program, for the `section` of the spec that it concerns.

    `mark` is its kind: `not imported`, for a part that the program lacks; `differs`, for a prompt that is not the
    original's; `check`, for a fault that keeps the program from passing the check.
    """

    section: str
    text: str
    mark: str = "not imported"


@dataclass(frozen=True)
class Imported:
    """An imported program: its name, the file or tool that it is from (`origin`), its description (None: none), the
    sections of its spec by their key, and notes.

    A note of a section that the program lacks is written at the top of the file.
    """

    name: str
    origin: str
    program: Mapping[str, Mapping[str, Any]]
    notes: tuple[Note, ...] = ()
    description: str | None = None

    def text(self) -> str:
        """Return the YAML of the program, with each note as a comment above its section."""
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
    """Return a valid name of the language made from any text: other characters than letters, digits and `_` are replaced."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


def wrapped(expression: str) -> str:
    """Return the expression written as `${{ expression }}`."""
    return f"${{{{ {expression} }}}}"


def _comments(notes: list[Note]) -> str:
    return "".join(f"# {note.mark}: {one_line(note.text)}\n" for note in notes)


def one_line(text: str) -> str:
    """Return a text in one line, without characters that YAML or a terminal would act on, for a comment."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
