"""Conversion of plain values to what a Python function's annotations want: pydantic models, dataclasses, enums and dates."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import inspect
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

_MADE = (enum.Enum, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


def instances_for(function: Callable[..., Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a converter from plain arguments (by name) to a new dictionary of the same arguments with the instances that
    the annotations of `function` (a function, class or callable object) name, nested ones too.

    Arguments with plain annotations, without one, with one that pydantic does not know, or of a function whose annotations
    cannot be evaluated pass unchanged. The converter raises ValueError for a value that an annotation does not take.
    """
    if inspect.isclass(function):
        target: Any = function.__init__  # type: ignore[misc]
    else:
        target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception:  # an annotation that cannot be evaluated says nothing, as it does in the check
        hints = {}
    made = {name: hint for name, hint in hints.items() if name != "return" and _is_made(hint)}
    if not made:
        return dict
    from pydantic import TypeAdapter, ValidationError

    adapters: dict[str, TypeAdapter[Any]] = {}
    for name, hint in made.items():
        with contextlib.suppress(Exception):  # an annotation that pydantic does not know says nothing, as in the check
            adapters[name] = TypeAdapter(hint)

    def instances(arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(arguments)
        for name, adapter in adapters.items():
            if name in found:
                try:
                    found[name] = adapter.validate_python(found[name], by_alias=True, by_name=True)
                except ValidationError as error:
                    first = error.errors()[0]
                    place = ".".join(map(str, (name, *first["loc"])))
                    raise ValueError(f"the argument {place}: {first['msg']}") from None
        return found

    return instances


def _is_made(hint: Any) -> bool:
    """Return whether an annotation, or a part of it, names a pydantic model, a dataclass, an enum, or a type of _MADE."""
    if isinstance(hint, type) and (
        hasattr(hint, "model_fields") or is_dataclass(hint) or (issubclass(hint, _MADE) and hint is not enum.Enum)
    ):
        return True
    return any(_is_made(argument) for argument in typing.get_args(hint))
