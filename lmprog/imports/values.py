"""Conversion of values in other tools' files to the language's types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, ListOf, Object, Optional, Type

_TRUTHS = {"true": True, "false": False}


def fitted(value: Any, kind: Type) -> Any:
    """Return a value converted to a type where it is only written otherwise ("120" or 120.0 for an int, 3 for a str,
    "True" for a bool, but not "yes"), in new lists and objects too; else the value unchanged, which then may not fit
    the type.
    """
    if isinstance(kind, Optional):
        return None if value is None else fitted(value, kind.inner)
    if kind == STR and isinstance(value, int | float):
        return str(value)
    if kind == BOOL and isinstance(value, str):
        return _TRUTHS.get(value.strip().lower(), value)
    if kind in (INT, FLOAT) and isinstance(value, str | float):
        return _number(value, kind)
    if isinstance(kind, ListOf) and isinstance(value, list):
        return [fitted(item, kind.item) for item in value]
    if isinstance(kind, Object) and isinstance(value, Mapping):
        kinds = dict(kind.fields)
        return {name: fitted(item, kinds[name]) if name in kinds else item for name, item in value.items()}
    return value


def _number(value: str | float, kind: Type) -> Any:
    """Return a value as a float or, where it is whole and below 2**53, as an int; unchanged where it is no such number."""
    try:
        number = float(value)
    except ValueError:
        return value
    if kind == FLOAT:
        return number
    return int(number) if math.isfinite(number) and number == int(number) and abs(number) < 2**53 else value
