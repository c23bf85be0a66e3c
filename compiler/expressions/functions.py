"""The closed set of functions of the expression language, with their types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.types.lattice import (
    BOOL,
    FLOAT,
    INT,
    JSON,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Optional,
    Type,
    Unknown,
    join,
    without_none,
)

Typing = Callable[[list[Type]], Type | str]
"""A function from the types of the arguments to the type of the result, or to a message that says what is wrong."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the expression language, which takes `least` to `most` arguments (None: any number).

    `typing` returns the type of the result for the types of the arguments, or a message; `call` returns the value, and
    any error that it raises becomes an EvaluationError of the expression; `about` shows how it is called, for messages
    and docs.
    """

    least: int
    most: int | None
    typing: Typing
    call: Callable[..., Any]
    about: str
    takes_none: bool = False
    """True if the function accepts an optional value; for other functions an optional value is a finding."""


def is_text(kind: Type) -> bool:
    """Return whether the type is str, an enum, or unknown; False for an optional one."""
    return kind == STR or isinstance(kind, Enum | Unknown)


def is_number(kind: Type) -> bool:
    """Return whether the type is int, float, or unknown; False for an optional one."""
    return kind in (INT, FLOAT) or isinstance(kind, Unknown)


def _texts(result: Type) -> Typing:
    """Return the typing of a function that takes texts alone."""

    def typing(kinds: list[Type]) -> Type | str:
        for kind in kinds:
            if not is_text(kind):
                return f"it takes str, not {kind}"
        return result

    return typing


def _sized(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if is_text(kind) or isinstance(kind, ListOf | Object) or kind == JSON or str(kind) == "messages":
        return INT
    return f"it takes a str, a list or an object, not {kind}"


def _extreme(kinds: list[Type]) -> Type | str:
    if len(kinds) == 1:
        if not isinstance(kinds[0], ListOf):
            return UNKNOWN if isinstance(kinds[0], Unknown) else f"it takes numbers or one list, not {kinds[0]}"
        kinds = [kinds[0].item]
    if all(is_number(kind) for kind in kinds):
        return FLOAT if FLOAT in kinds else (INT if INT in kinds else UNKNOWN)
    if all(is_text(kind) for kind in kinds):
        return STR
    return f"it takes numbers, not {', '.join(map(str, kinds))}"


def _sum(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, ListOf) and is_number(kind.item):
        return kind.item
    return UNKNOWN if isinstance(kind, Unknown) else f"it takes a list of numbers, not {kind}"


def _number(result: Type | None) -> Typing:
    """Return the typing of a function that takes numbers alone; None for a result of the first argument's type."""

    def typing(kinds: list[Type]) -> Type | str:
        for kind in kinds:
            if not is_number(kind):
                return f"it takes numbers, not {kind}"
        return result or kinds[0]

    return typing


def _round(kinds: list[Type]) -> Type | str:
    wrong = _number(None)(kinds)
    if len(kinds) == 2 and kinds[1] == FLOAT:
        return "the number of digits is a whole number"
    return wrong if isinstance(wrong, str) else (INT if len(kinds) == 1 else FLOAT)


def _convert(result: Type) -> Typing:
    """Return the typing of a function that reads one value as `result`, and may take a number to return instead."""

    def typing(kinds: list[Type]) -> Type | str:
        kind = kinds[0]
        if len(kinds) > 1 and not is_number(without_none(kinds[1])):
            return f"what stands instead is a number, not {kinds[1]}"
        if kind in (INT, FLOAT, BOOL, JSON) or is_text(kind):
            return result if len(kinds) == 1 else join(result, kinds[1]) or result
        return f"it takes a single value, not {kind}"

    return typing


def _join(kinds: list[Type]) -> Type | str:
    if not (isinstance(kinds[0], Unknown) or (isinstance(kinds[0], ListOf) and is_text(kinds[0].item))):
        return f"it takes a list of str, not {kinds[0]}"
    return STR if len(kinds) == 1 or is_text(kinds[1]) else f"the separator must be str, not {kinds[1]}"


def _default(kinds: list[Type]) -> Type | str:
    found = join(without_none(kinds[0]), kinds[1])
    return found if found is not None else f"{kinds[1]} cannot stand for {without_none(kinds[0])}"


def _item(optional: bool) -> Typing:
    """Return the typing of a function of one list: with `optional` it returns an item or null, else the list."""

    def typing(kinds: list[Type]) -> Type | str:
        if isinstance(kinds[0], Unknown):
            return UNKNOWN
        if not isinstance(kinds[0], ListOf):
            return f"it takes a list, not {kinds[0]}"
        return Optional(without_none(kinds[0].item)) if optional else kinds[0]

    return typing


def _compact(kinds: list[Type]) -> Type | str:
    if isinstance(kinds[0], Unknown):
        return UNKNOWN
    return ListOf(without_none(kinds[0].item)) if isinstance(kinds[0], ListOf) else f"it takes a list, not {kinds[0]}"


def _flatten(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, Unknown):
        return UNKNOWN
    inner = without_none(kind.item) if isinstance(kind, ListOf) else kind
    if isinstance(kind, ListOf) and isinstance(inner, ListOf | Unknown):
        return inner
    return f"it takes a list of lists, not {kind}"


def _named_field(item: Type, name: Type) -> Type | None:
    """Return the type of the field of `item` that a text names, from the type of the text: an enum of its one value. None
    where it is no such text, or names no field of an object."""
    names = name.values if isinstance(name, Enum) else ()
    return item.get(names[0]) if isinstance(item, Object) and len(names) == 1 else None


def _most_common(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, Unknown):
        return UNKNOWN
    if not isinstance(kind, ListOf):
        return f"it takes a list, not {kind}"
    if len(kinds) == 2 and not isinstance(kind.item, Unknown) and _named_field(kind.item, kinds[1]) is None:
        return f"what is compared is the name of a field of {kind.item}, in quotes"
    return kind.item


def _pluck(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, Unknown):
        return UNKNOWN
    if not isinstance(kind, ListOf):
        return f"it takes a list of objects, not {kind}"
    if isinstance(kind.item, Unknown):
        return ListOf(UNKNOWN)
    if isinstance(kind.item, Optional):
        return f"it takes a list of objects, not {kind}: compact(list) leaves out what is absent"
    field = _named_field(kind.item, kinds[1])
    if field is None:
        return f"what is taken is the name of a field of {kind.item}, in quotes"
    return ListOf(field)


def _subset(kinds: list[Type]) -> Type | str:
    for kind in kinds:
        if not isinstance(kind, ListOf | Unknown):
            return f"it takes two lists, not {kind}"
    items = [kind.item for kind in kinds if isinstance(kind, ListOf)]
    if len(items) == 2 and JSON not in items and join(*items) is None:
        return f"a list[{items[0]}] has nothing in common with a list[{items[1]}]"
    return BOOL


def _sorted(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, Unknown) or (isinstance(kind, ListOf) and (is_text(kind.item) or is_number(kind.item))):
        return kind
    return f"it takes a list of numbers or of str, not {kind}"


def _bools(kinds: list[Type]) -> Type | str:
    kind = kinds[0]
    if isinstance(kind, Unknown) or (isinstance(kind, ListOf) and kind.item in (BOOL, UNKNOWN)):
        return BOOL
    return f"it takes a list of bool, not {kind}"


def _unique(values: list[Any]) -> list[Any]:
    """Return each value once, in the order of its first place."""
    kept: list[Any] = []
    seen: set[str] = set()
    for value in values:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in seen:
            seen.add(key)
            kept.append(value)
    return kept


def _frequent(values: list[Any], *field: str) -> Any:
    """Return the most common item, compared by a field where one is named; of equally common ones the first. Raises
    ValueError for an empty list."""
    if not values:
        raise ValueError("the list is empty")
    keys = [json.dumps(value[field[0]] if field else value, sort_keys=True, default=str) for value in values]
    return values[max(range(len(keys)), key=lambda place: (keys.count(keys[place]), -place))]


def _plucked(objects: list[Any], field: str) -> list[Any]:
    """Return a field of each object, None where it has none. Raises ValueError for an item that is no object."""
    if not all(isinstance(each, Mapping) for each in objects):
        raise ValueError("an item of the list is no object")
    return [each.get(field) for each in objects]


def _text(value: Any) -> str:
    """Return a text as it is, and another value as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _len(value: Any) -> int:
    if not isinstance(value, str | list | tuple | dict):
        raise ValueError(f"{_text(value)} has no length")
    return len(value)


def _read(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that reads a text, number or flag by `kind` (int or float). Where that is impossible it returns its
    second argument, and without one raises ValueError, or OverflowError for infinity as a whole number."""

    def read(value: Any, *instead: Any) -> Any:
        try:
            if not isinstance(value, str | int | float):
                raise ValueError(f"{_text(value)} is no number")
            return kind(value)
        except (ValueError, OverflowError):
            if instead:
                return instead[0]
            raise

    return read


MAX_CHARACTERS = 10_000_000
"""Characters of the longest text that `replace`, `join` and `json` make; a longer one is an error."""


def _bounded(characters: int) -> None:
    """Raise ValueError for a text of more than MAX_CHARACTERS."""
    if characters > MAX_CHARACTERS:
        raise ValueError(f"the text would be longer than {MAX_CHARACTERS:,} characters")


MAX_DIGITS = 1_000
"""The most digits, before or behind the point, that `round` counts; more take ever longer, and change no number."""


def _rounded(number: float, *digits: int) -> float:
    if digits and abs(digits[0]) > MAX_DIGITS:
        raise ValueError(f"a number is rounded to at most {MAX_DIGITS:,} digits")
    return round(number, *digits)


def _replace(text: str, old: str, new: str) -> str:
    _bounded(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _joined(texts: list[str], separator: str = "") -> str:
    _bounded(sum(map(len, texts)) + len(separator) * (len(texts) - 1))
    return separator.join(texts)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    _bounded(len(text))
    return text


FUNCTIONS: dict[str, Function] = {
    "len": Function(1, 1, _sized, _len, "len(x): how many characters, items or fields"),
    "min": Function(1, None, _extreme, min, "min(a, b, ...) or min(list)"),
    "max": Function(1, None, _extreme, max, "max(a, b, ...) or max(list)"),
    "sum": Function(1, 1, _sum, sum, "sum(list of numbers)"),
    "abs": Function(1, 1, _number(None), abs, "abs(x)"),
    "round": Function(1, 2, _round, _rounded, "round(x) or round(x, digits)"),
    "int": Function(1, 2, _convert(INT), _read(int), "int(x) or int(x, instead): a whole number from text or a number"),
    "float": Function(
        1, 2, _convert(FLOAT), _read(float), "float(x) or float(x, instead): a number from text or a number"
    ),
    "str": Function(1, 1, _convert(STR), _text, "str(x): text from a single value"),
    "json": Function(1, 1, lambda kinds: STR, _json, "json(x): x as JSON", True),
    "lower": Function(1, 1, _texts(STR), str.lower, "lower(text)"),
    "upper": Function(1, 1, _texts(STR), str.upper, "upper(text)"),
    "strip": Function(1, 1, _texts(STR), str.strip, "strip(text)"),
    "replace": Function(3, 3, _texts(STR), _replace, "replace(text, old, new)"),
    "split": Function(1, 2, _texts(ListOf(STR)), str.split, "split(text) or split(text, separator)"),
    "startswith": Function(2, 2, _texts(BOOL), str.startswith, "startswith(text, start)"),
    "endswith": Function(2, 2, _texts(BOOL), str.endswith, "endswith(text, end)"),
    "join": Function(1, 2, _join, _joined, "join(list of str, separator)"),
    "default": Function(
        2, 2, _default, lambda x, other: other if x is None else x, "default(optional, value instead)", True
    ),
    "first": Function(1, 1, _item(True), lambda xs: xs[0] if xs else None, "first(list): T?"),
    "last": Function(1, 1, _item(True), lambda xs: xs[-1] if xs else None, "last(list): T?"),
    "unique": Function(1, 1, _item(False), _unique, "unique(list): each value once, in order"),
    "most_common": Function(
        1,
        2,
        _most_common,
        _frequent,
        "most_common(list) or most_common(list of objects, 'field'): of several the first",
    ),
    "pluck": Function(
        2,
        2,
        _pluck,
        _plucked,
        "pluck(list of objects, 'field'): that field of each, in order",
    ),
    "subset": Function(
        2,
        2,
        _subset,
        lambda xs, ys: all(x in ys for x in xs),
        "subset(list, of): whether each item of a list stands in another",
    ),
    "sorted": Function(1, 1, _sorted, sorted, "sorted(list of numbers or of str)"),
    "compact": Function(1, 1, _compact, lambda xs: [x for x in xs if x is not None], "compact(list[T?]): list[T]"),
    "flatten": Function(
        1,
        1,
        _flatten,
        lambda xs: [x for part in xs for x in part or ()],
        "flatten(list of lists): their items, in order",
    ),
    "any": Function(1, 1, _bools, any, "any(list of bool)"),
    "all": Function(1, 1, _bools, all, "all(list of bool)"),
}
