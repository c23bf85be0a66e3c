"""The merge of two mappings of a spec; of keys that exclude each other those of the upper mapping stay."""

from __future__ import annotations

from collections.abc import Set

from lmprog.compiler.language import PROGRAM
from lmprog.compiler.shape import Anything, Either, Lazy, MapOf, Nullable, Record, Shape
from lmprog.compiler.types.shapes import LONG_FORM, WRITTEN_OUT
from lmprog.compiler.yaml.source import Mapping

_OF_FIELD = LONG_FORM.keys.keys() - {*LONG_FORM.one_of}
"""Keys that are said of an input or output beside its type."""


def merged(base: Mapping, over: Mapping, shape: Shape = PROGRAM) -> Mapping:
    """Return `over` merged over `base`, as a new mapping with the place of `over`: mappings merge key by key, other values,
    lists and null included, replace; each value keeps its place in its file.

    `shape` describes both. Where a key of `over` excludes a key of `base`, that key of `base` and those that belong to
    it are dropped.
    """
    shape = _of_mapping(shape, base.entries.keys() | over.entries.keys())
    result = base.copy()
    result.source, result.line, result.column = over.source, over.line, over.column
    for key in given_up(shape, base.entries.keys(), over.entries.keys()):
        del result.entries[key], result.keys[key]
    for key, value in over.entries.items():
        below = base.entries.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result.entries[key] = merged(below, value, _of_key(shape, key)) if both else value  # type: ignore[arg-type]
        result.keys[key] = over.keys[key]
    return result


def given_up(shape: Shape, below: Set[str], above: Set[str]) -> Set[str]:
    """Return those keys of `below`, a mapping of this shape, that are dropped when a mapping with the keys `above` is laid
    over it.
    """
    if isinstance(shape, Record):
        return _of_record(shape, below, above)
    return _of_type(below, above) if shape is WRITTEN_OUT else frozenset()


def _of_record(record: Record, below: Set[str], above: Set[str]) -> Set[str]:
    """Return the keys that are dropped of a record whose form is decided by one of several keys or groups of keys."""
    there = [group for group in record.groups if not below.isdisjoint(group)]
    # A key that may stand beside what is there chooses nothing, as the `url` of a server beside `openapi`.
    taken = [
        group
        for group in record.groups
        if any(key in group and not any(record.beside(key, each) for each in there if each != group) for key in above)
    ]
    if len(taken) != 1:
        return frozenset()
    (chosen,) = taken
    deciding = {key for group in record.groups for key in group}
    lost = {
        key for key in below & deciding - above - {*chosen} if chosen not in there or not record.beside(key, chosen)
    }
    return lost | {key for key in below - deciding - above if lost and not record.beside(key, chosen)}


def _of_type(below: Set[str], above: Set[str]) -> Set[str]:
    """Return the keys of a type written out that are dropped where another type with the keys `above` is laid over it;
    none where both are objects, whose fields merge, or are written in the same way."""
    old, new = _form(below), _form(above)
    if not new or old == new:
        return frozenset()
    # What is said beside a type stays: a private value does not become public where its type changes.
    return (below if old == "object" else below - _OF_FIELD) - above


def _form(keys: Set[str]) -> str:
    """Return how a type with these keys is written: the key of a long form (as `enum`), `object`, or an empty text where no
    key says a type."""
    names = keys - _OF_FIELD
    return next((form for form in LONG_FORM.one_of if names == {form}), "object" if names else "")


def _of_mapping(shape: Shape, keys: Set[str]) -> Shape:
    """Return the shape that holds for a mapping with these keys where `shape` is wanted."""
    while not isinstance(shape, Record | MapOf | Anything):
        if isinstance(shape, Lazy):
            shape = shape.shape()
        elif isinstance(shape, Nullable):
            shape = shape.shape
        else:
            shape = (shape.mapping if isinstance(shape, Either) else None) or Anything()
    return shape.having(keys) if isinstance(shape, Record) else shape


def _of_key(shape: Shape, key: str) -> Shape:
    """Return the shape of the value of a key in a mapping of this shape; one that takes anything where it is unknown."""
    if isinstance(shape, Record):
        return shape.keys.get(key, Anything())
    if isinstance(shape, MapOf):
        return shape.value
    return Anything()
