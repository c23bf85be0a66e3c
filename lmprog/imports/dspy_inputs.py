"""The inputs of a program made from a DSPy program, the names of its fields in the language, and targets as values."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from lmprog.compiler.prompts.layout import RESERVED
from lmprog.compiler.types.lattice import STR, Object, Type
from lmprog.imports.dspy_signatures import written
from lmprog.imports.program import identifier


@dataclass
class ProgramInput:
    """An input of the program that is made: its type (None: not known yet), its default (None: none), and the types of
    the fields that are read of it, by name.
    """

    type: Type | None = None
    default: Any = None
    fields: dict[str, Type] = field(default_factory=dict)

    def entry(self) -> Any:
        """Return the input as a spec writes it; where its type is not known, an object of the fields that are read,
        else `str`.
        """
        read = Object(tuple(self.fields.items())) if self.fields else STR
        kind = written(self.type or read)
        return kind if self.default is None else {"type": kind, "default": self.default}


def field_name(name: str, kind: str) -> str:
    """Return the name of a module's input or output (`kind`: `input` or `output`) for the DSPy field `name`, made an
    identifier; a name that has a meaning of its own in templates gets `_KIND` appended.
    """
    return f"{name}_{kind}" if name in RESERVED else identifier(name)


def as_read(target: ast.expr) -> ast.expr:
    """Return a target of an assignment as an expression that reads it."""
    found = ast.parse(ast.unparse(target), mode="eval").body
    return ast.copy_location(found, target)
