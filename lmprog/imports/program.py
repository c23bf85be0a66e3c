"""What an import comes to: a program as plain values, what could not be carried over, and both as one YAML text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.yaml_writer import dump

SECTIONS = ("inputs", "outputs", "lms", "tools", "modules", "steps", "tests")


@dataclass(frozen=True)
class Note:
    """Something of the other file that the program does not hold; `section` is the key that it would belong to."""

    section: str
    text: str


@dataclass(frozen=True)
class Imported:
    """`program` holds the sections of SECTIONS that are there; notes of other sections stand at the top of the text."""

    name: str
    origin: str
    program: Mapping[str, Mapping[str, Any]]
    notes: tuple[Note, ...] = ()
    description: str | None = None

    def text(self) -> str:
        """The YAML file: each note is a comment above the section that it belongs to."""
        head: dict[str, Any] = {"lmprog": 1, "name": self.name}
        if self.description:
            head["description"] = " ".join(self.description.split())
        kept = [section for section in SECTIONS if self.program.get(section)]
        loose = [note for note in self.notes if note.section not in kept]
        parts = [_comments([f"made by `lmprog import` from {self.origin}"], "") + _comments(loose) + dump(head)]
        for section in kept:
            notes = [note for note in self.notes if note.section == section]
            parts.append(_comments(notes) + dump({section: self.program[section]}))
        return "\n".join(parts)


def identifier(text: str) -> str:
    """A name of the language for any name of another."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return f"_{name}" if not name or name[0].isdigit() else name


def type_of(value: Any) -> str:
    """The type of a sample or default value, as the language writes it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "int" if isinstance(value, int) else "float"
    if isinstance(value, list):
        return "list[str]" if value and all(isinstance(item, str) for item in value) else "list[json]"
    return "json" if isinstance(value, dict) else "str"


def wrapped(expression: str) -> str:
    """`${{ expression }}`."""
    return f"${{{{ {expression} }}}}"


def _comments(notes: list[Note] | list[str], mark: str = "not imported: ") -> str:
    texts = [note.text if isinstance(note, Note) else note for note in notes]
    return "".join(f"# {mark}{' '.join(text.split())}\n" for text in texts)
