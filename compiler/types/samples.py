"""Sample values of a type, with which `check` tries templates and expressions."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    IMAGE,
    INT,
    JSON,
    MESSAGES,
    STR,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
)

_MAX_COMBINATIONS = 96
"""Maximum number of combinations of samples that are tried."""
_LONG = 300
"""Items of a list and characters of a text that stand for a long one."""
_SIMPLE: dict[Type, list[Any]] = {
    STR: ["T e", "", "3"],
    INT: [1, 0, 1000, -1000],
    FLOAT: [1.5, 0.0, -2.0],
    BOOL: [True, False],
    JSON: [{"a": 1}, {}],
    MESSAGES: [[{"role": "user", "content": "T e"}], []],
    IMAGE: ["picture.png"],
}


def samples(kind: Type) -> list[Any]:
    """Return a few values of a type, an ordinary one first, then extreme ones; empty where the type, or that of a part of
    it, is unknown."""
    if kind in _SIMPLE:
        return copy.deepcopy(_SIMPLE[kind])  # Jinja's `indent` changes a list that it is given.
    if isinstance(kind, Enum):
        return list(kind.values[:8])
    if isinstance(kind, Optional):
        inner = samples(kind.inner)
        return [*inner, None] if inner else []
    if isinstance(kind, ListOf):
        items = samples(kind.item)
        return [items[:2], [], items[2:] or items[:1]] if items else []
    if isinstance(kind, Object):
        fields = {name: samples(inner) for name, inner in kind.fields}
        return list(combinations(fields, 6)) if all(fields.values()) else []
    return []


def long_sample(kind: Type) -> Any:
    """Return a value of a type with texts of 300 digits and lists of 300 items in it; raise IndexError for a type that has
    no `samples`."""
    if isinstance(kind, Optional):
        return long_sample(kind.inner)
    if isinstance(kind, ListOf):
        return [samples(kind.item)[0]] * _LONG
    if isinstance(kind, Object):
        return {name: long_sample(inner) for name, inner in kind.fields}
    return "1" * _LONG if kind == STR else samples(kind)[0]


def combinations(choices: Mapping[str, Sequence[Any]], most: int = _MAX_COMBINATIONS) -> Iterator[dict[str, Any]]:
    """Yield mappings with one value for each name of `choices`: all combinations if they are at most `most`, the first
    values first.

    If there are more, at most `most` are yielded (or as many as the longest list of values has, if these are more): for
    each position the values that stand there, the last one of shorter lists, then each other value beside the first values
    of the other names.
    """
    count = 1
    for values in choices.values():
        count *= len(values)
    if count <= most:
        for chosen in itertools.product(*choices.values()):
            yield dict(zip(choices, chosen, strict=True))
        return
    first = {name: values[0] for name, values in choices.items()}
    yield first
    longest = max(len(values) for values in choices.values())
    for position in range(1, longest):
        yield {name: values[min(position, len(values) - 1)] for name, values in choices.items()}
    single = ({**first, name: value} for name, values in choices.items() for value in values[1:])
    yield from itertools.islice(single, max(0, most - longest))
