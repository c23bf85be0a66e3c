"""The keys of the language with their descriptions, for docs/reference/ and editors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from lmprog.compiler.language import PROGRAM
from lmprog.compiler.optimizing.contract import built_in
from lmprog.compiler.schema.option_schema import shape_of
from lmprog.compiler.shape import (
    Anything,
    Boolean,
    Choice,
    Either,
    Expr,
    Lazy,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Record,
    Shape,
    Text,
)
from lmprog.compiler.types.shapes import LONG_FORM

TYPES = "type"
"""The section of the long form of types."""
STAGES = "optimize.stages[]"
"""The section of stages; that of the options of a stage has the name of the stage behind it."""


@dataclass(frozen=True)
class Key:
    """A key of the language, or an option of a built-in stage, as docs/reference shows it: section, name, type, meaning
    (`about`), whether it is needed, default and example, all as text.
    """

    section: str
    """The path of the mapping that it stands in, as in `lms.<LM>.limits`; empty for the top of a file."""
    name: str
    type: str
    about: str
    needed: str
    """`required`, or the words that say when it is; empty where it may be left out."""
    default: str
    """The meaning of leaving it out."""
    example: str
    """A value as a spec writes it."""
    same_as: str = ""
    """The path of an earlier key with the same shape, below which its parts are described; empty where there is none."""

    @property
    def path(self) -> str:
        """The section and the name of the key, joined by a dot; the name alone at the top of a file."""
        return f"{self.section}.{self.name}" if self.section else self.name


@cache
def keys() -> tuple[Key, ...]:
    """Return all keys of the language and all options of built-in stages, each mapping once, from the top of a file to its
    inner parts; the keys of a section stand together. They are computed once a process."""
    found: list[Key] = []
    described: dict[int, str] = {}
    seen: set[int] = set()
    stages = [(f"{STAGES}.{name}", shape_of(facts.options)) for name, facts in built_in().items()]
    waiting: list[tuple[str, Shape]] = [("", PROGRAM), (TYPES, LONG_FORM), *stages]
    while waiting:
        path, shape = waiting.pop(0)
        for section, record in _records(path, shape):
            if id(record) in seen:
                continue
            seen.add(id(record))
            for name, part in record.keys.items():
                key = _key(section, name, part, record, described.get(id(part), ""))
                described.setdefault(id(part), key.path)
                found.append(key)
                if not isinstance(part, Lazy) or part.name == "steps":
                    waiting.append((key.path, part))
    return tuple(found)


def section_of(section: str) -> tuple[Key, ...]:
    """Return the keys of one section, such as `lms.<LM>.limits`; empty for a section that does not exist."""
    return tuple(key for key in keys() if key.section == section)


def type_text(shape: Shape) -> str:
    """Return a description of a shape in words, such as "list of texts"."""
    return str(_NAMES[type(shape)](shape))


def _records(path: str, shape: Shape) -> Iterator[tuple[str, Record]]:
    """Yield the mappings with known keys that a shape allows at a path, or below it in the entries of a list (`path[]`) or
    in entries that the author names (`path.<LM>`), each with its path."""
    if isinstance(shape, Lazy):
        yield from _records(path, shape.shape())
    elif isinstance(shape, Anything) and shape.known is not None:
        yield from _records(path, shape.known)
    elif isinstance(shape, Record):
        yield path, shape
    elif isinstance(shape, MapOf):
        yield from _records(f"{path}.<{shape.what}>", shape.value)
    elif isinstance(shape, ListOf):
        yield from _records(f"{path}[]", shape.item)
    elif isinstance(shape, Either):
        for part in (shape.mapping, shape.sequence):
            if part is not None:
                yield from _records(path, part)


def _key(section: str, name: str, shape: Shape, record: Record, same_as: str) -> Key:
    """Return the description of the key `name` of a mapping of the shape `record`."""
    required = name in record.required
    needed = "required" if required else ""
    if name in record.one_of:
        needed = f"exactly one of {_listed([f'`{key}`' for key in record.one_of])} is required"
    else:
        form = next((form for form in record.forms if name in form), None)
        if form is not None:
            others = [f"`{key}`" for key in form if key != name]
            needed = f"required with {_listed(others, 'and')}" if others else _alternative(name, record)
    default = shape.default or ("" if needed else "none")
    return Key(section, name, type_text(shape), shape.about, needed, default, shape.example, same_as)


def _alternative(name: str, record: Record) -> str:
    other = [" and ".join(f"`{key}`" for key in form) for form in record.forms if name not in form]
    return f"required without {_listed(other)}"


def _listed(words: list[str], last: str = "or") -> str:
    """Return one or more words as a list in a sentence, with `last` before the last word."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _number(shape: Any) -> str:
    text = "whole number" if shape.whole else "number"
    if shape.least is not None and shape.most is not None:
        text += f" from {shape.least:g} to {shape.most:g}"
    elif shape.above is not None:
        text += f" above {shape.above:g}"
        text += f", at most {shape.most:g}" if shape.most is not None else ""
    elif shape.least is not None:
        text += f", at least {shape.least:g}"
    return _listed([*(f"`{word}`" for word in shape.words), text])


def _either(shape: Any) -> str:
    parts = [part for part in (shape.scalar, shape.sequence, shape.mapping) if part is not None]
    return _listed([type_text(part) for part in parts])


def _record_text(shape: Any) -> str:
    return f"mapping with {_listed([f'`{key}`' for key in shape.keys], 'and')}" if len(shape.keys) < 5 else "mapping"


_NAMES: dict[type[Shape], Any] = {
    Text: lambda shape: "text",
    Number: _number,
    Boolean: lambda shape: "`true` or `false`",
    Choice: lambda shape: _listed([f"`{word}`" for word in shape.words]),
    Expr: lambda shape: "expression",
    Anything: lambda shape: "any value" if shape.known is None else "any value, or checks of it",
    ListOf: lambda shape: f"list of {_several(shape.item)}",
    MapOf: lambda shape: f"mapping: {shape.what} → {type_text(shape.value)}",
    Record: _record_text,
    Either: _either,
    Nullable: lambda shape: f"{type_text(shape.shape)}, or null",
    Lazy: lambda shape: "type" if shape.name == "type" else type_text(shape.shape()),
}


def _several(item: Shape) -> str:
    if isinstance(item, Text):
        return "texts"
    if isinstance(item, Number) and not item.words:
        return type_text(item).replace("number", "numbers", 1)
    return type_text(item)
