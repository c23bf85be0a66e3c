"""Fixes for values that are not of their type: the label, or the form of the value, that was probably meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmprog.compiler.findings.finding import nearest, shown_value
from lmprog.compiler.types.lattice import BOOL, FLOAT, INT, STR, Enum, ListOf, Object, Type, mismatch, without_none


def meant(value: Any, kind: Type) -> str | None:
    """Return the fix for a value that does not fit a type: a label that is nearly the same, or the value in the form of the
    type; of a list or object the fix for its first part that does not fit. None where none is known.
    """
    kind = without_none(kind)
    if isinstance(kind, ListOf) and isinstance(value, list | tuple):
        return next((meant(item, kind.item) for item in value if mismatch(item, kind.item)), None)
    if isinstance(kind, Object) and isinstance(value, Mapping):
        wrong = ((value[name], inner) for name, inner in kind.fields if name in value)
        return next((meant(item, inner) for item, inner in wrong if mismatch(item, inner)), None)
    if isinstance(kind, Enum) and isinstance(value, str):
        word = value.strip().casefold()
        same = next((label for label in kind.values if label.strip().casefold() == word), None)
        close = same or nearest(value, kind.values)
        return f"did you mean `{close}`?" if close else None
    written = _written(value, kind)
    return f"write {shown_value(written)}" if written is not None and mismatch(written, kind) is None else None


def _written(value: Any, kind: Type) -> Any:
    """Return a value in the form of a type, which need not fit it; None where none is meant."""
    if isinstance(kind, ListOf) and mismatch(value, kind.item) is None:
        return [value]
    if (kind == STR or isinstance(kind, Enum)) and isinstance(value, bool | int | float):
        return json.dumps(value)
    if kind in (INT, FLOAT) and isinstance(value, str):
        try:
            return int(value) if kind == INT else float(value)
        except ValueError:
            return None
    if kind == BOOL and isinstance(value, str):
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.strip().lower())
    return None
