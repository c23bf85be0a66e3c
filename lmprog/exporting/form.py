"""The lines at the head of an exported file, and Python's notation of values: shared by the forms of an export."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.yaml.writer import dump
from lmprog.exporting.exported import ExportedModule
from lmprog.exporting.plain_jinja import Hole

_WIDTH = 100


def head(plan: Plan, modules: Sequence[ExportedModule], form: str) -> Iterator[str]:
    """Yield the lines, without comment marks, for the comment at the head of a file: from which program it was made by
    `lmprog export --FORM`, and a line for each part that the modules' texts do not hold."""
    yield f"made by `lmprog export --{form}` from {plan.path.name}; program {plan.name}, digest {plan.digest}"
    for note in notes(modules):
        yield f"not exported: {note}"


def notes(modules: Iterable[ExportedModule]) -> list[str]:
    """Return a phrase for each part that the texts of the exported modules do not hold, each once."""
    return list(dict.fromkeys(note for module in modules for note in module.left_out()))


def wiring(plan: Plan) -> Iterator[str]:
    """Yield the program's steps and outputs as lines of YAML, after a line that says that they are not exported; nothing for
    a program without them."""
    parts = {key: plan.meaning[key] for key in ("steps", "outputs") if plan.meaning.get(key)}
    if parts:
        yield "not exported: the steps between the modules, the reading of replies, and further tries; the steps are"
        yield from dump(parts).splitlines()


def named(name: str, taken: Iterable[str] = ()) -> str:
    """Return a name of a spec as a Python name: with an underscore behind it where it is a keyword of Python or in `taken`,
    which may make it equal to another name."""
    return f"{name}_" if keyword.iskeyword(name) or name in taken else name


def free(name: str, taken: Iterable[str]) -> str:
    """Return a name for a variable that is not one of `taken`: `name` with as few underscores before it as are needed,
    maybe none."""
    while name in taken:
        name = f"_{name}"
    return name


def format_code(piece: str | Hole) -> str:
    """Return a piece of a text in the notation of `str.format`: a hole as `{name}`, a text with its braces doubled."""
    return f"{{{piece.name}}}" if isinstance(piece, Hole) else piece.replace("{", "{{").replace("}", "}}")


def literal(value: Any, indent: int) -> str:
    """Return a plain value in Python's notation, over several lines where it is too long for one; `indent` is that of the
    line that it begins in."""
    if isinstance(value, str):
        return text_literal([value], indent)
    if isinstance(value, Mapping | list | tuple) and len(short := _short(value)) + indent > _WIDTH:
        inner = " " * (indent + 4)
        if isinstance(value, Mapping):
            parts = [f"{inner}{_quoted(str(key))}: {literal(item, indent + 4)},\n" for key, item in value.items()]
            return "{\n" + "".join(parts) + " " * indent + "}"
        return "[\n" + "".join(f"{inner}{literal(item, indent + 4)},\n" for item in value) + " " * indent + "]"
    return short if isinstance(value, Mapping | list | tuple) else _short(value)


def call(name: str, value: Any, indent: int) -> str:
    """Return the call of the function `name` with one plain value in Python's notation; `indent` is that of its line."""
    written = literal(value, indent)
    return name + (written if written.startswith("(") else f"({written})")


def docstring(lines: Iterable[str]) -> str:
    """Return lines as a Python docstring in three double quotes; backslashes become `/`, and double quotes single ones."""
    text = "\n".join(lines).replace("\\", "/").replace('"', "'")
    return f'"""{text}\n"""\n'


def text_literal(pieces: Sequence[str], indent: int, prefix: str = "") -> str:
    """Return a text, given in pieces, as a Python string: in brackets with one line of code for each of its lines where it has
    several.

    `indent` is that of the code. With the prefix `f` it is an f-string, whose pieces must be in the notation of `format_code`.
    """
    lines = "".join(pieces).splitlines(keepends=True)
    if any(line[-1:] not in ("\n", "") and line is not lines[-1] for line in lines):
        lines = ["".join(pieces)]  # Breaks that are no line breaks to Python's notation.
    if len(lines) < 2:
        return prefix + _quoted("".join(pieces))
    inner = " " * (indent + 4)
    return "(\n" + "".join(f"{inner}{prefix}{_quoted(line)}\n" for line in lines) + " " * indent + ")"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
