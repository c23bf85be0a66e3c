"""Conversion of plain values, as JSON gives them, to dataclasses; half a surrogate pair passes, which pydantic would refuse."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lmprog.errors import Handled


class Unfit(Handled, ValueError):
    """The error for a value that is not of the wanted type; the message names the place in it."""


def read_as(kind: Any, value: Any, *, exact: bool = False, place: str = "") -> Any:
    """Return a plain value as the type `kind`: a dataclass with its fields, a mapping with text keys, a list or tuple, a
    union (its first type that fits), a Literal, or a simple type; Any takes the value as it is. A tuple is made for tuple
    types and for sequences of dataclasses. A float may be a whole number, which stays an int, and true and false are no
    numbers. Fields with defaults may be absent.

    Keys of `value` that a dataclass has no field for are ignored, or with `exact` refused. Raises Unfit for a value that
    does not fit; its message begins with `place`, where the value stands (empty: the whole).
    """
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind), value, exact, place)
    if origin is Literal:
        return _checked(value in get_args(kind), value, place)
    if is_dataclass(kind):
        return _instance(kind, value, exact, place)
    if origin is not None and issubclass(origin, Mapping):
        _checked(isinstance(value, Mapping) and all(isinstance(name, str) for name in value), value, place)
        of = get_args(kind)[1]
        return {name: read_as(of, entry, exact=exact, place=f"{place}.{name}") for name, entry in value.items()}
    if origin is not None and issubclass(origin, Sequence):
        _checked(isinstance(value, list | tuple), value, place)
        of, *others = get_args(kind)
        if origin is tuple and others != [...] and len(value) != 1 + len(others):
            raise Unfit(f"{place or 'it'} has {len(value)} values")
        found = [read_as(of, entry, exact=exact, place=f"{place}[{index}]") for index, entry in enumerate(value)]
        return tuple(found) if origin is tuple or is_dataclass(of) else found
    if kind is float:
        return _checked(isinstance(value, int | float) and not isinstance(value, bool), value, place)
    fits = isinstance(value, kind) if kind is not type(None) else value is None
    return _checked(fits and (kind is bool or not isinstance(value, bool)), value, place)


def _instance(kind: Any, value: Any, exact: bool, place: str) -> Any:
    """Return an instance of the dataclass `kind` from a mapping; the arguments are those of `read_as`."""
    _checked(isinstance(value, Mapping), value, place)
    hints, found = _hints(kind), {}
    for name, required in hints.items():
        if name in value:
            found[name] = read_as(required[0], value[name], exact=exact, place=f"{place}.{name}".lstrip("."))
        elif required[1]:
            raise Unfit(f"{f'{place}.{name}'.lstrip('.')} is missing")
    unknown = value.keys() - hints.keys()
    if exact and unknown:
        raise Unfit(f"{place or 'it'} has the unknown field {sorted(unknown)[0]!r}")
    return kind(**found)


def _any_of(kinds: tuple[Any, ...], value: Any, exact: bool, place: str) -> Any:
    for kind in kinds:
        try:
            return read_as(kind, value, exact=exact, place=place)
        except Unfit as error:
            last = error
    raise last


def _checked(fits: bool, value: Any, place: str) -> Any:
    """Return the value where it `fits`, else raise Unfit."""
    if not fits:
        raise Unfit(f"{place or 'it'} is of the wrong type ({type(value).__name__})")
    return value


@cache
def _hints(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return, by the fields of a dataclass, the type of each and True where it must be given."""
    hints = get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    }


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a value, at any depth of its mappings and lists; the keys of mappings are not yielded."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from texts_of(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from texts_of(entry)
