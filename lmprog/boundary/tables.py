"""Rows of the tables that Python programs hold: lists of mappings, data frames and data sets; none of them is imported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmprog.errors import UsageError

_PLAIN = (str, int, float, bool, type(None))


def as_rows(table: Any) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a table as mappings by column with plain values (see `plain`): as a list, or for an iterable that
    is no sequence as an iterator, which reads one row at a time.

    Data frames of pandas and polars, tables of pyarrow and data sets of `datasets` are recognized by their methods, and
    their rows made at once. A value that is missing in a data frame of pandas is None. Raises UsageError for a value that
    has no rows, such as a mapping, and for a row that is no mapping: at once, or of an iterator when the row is reached.
    """
    if isinstance(table, Mapping | str | bytes) or not hasattr(table, "__iter__"):
        what = "a data set with splits: take one, such as data['train']" if isinstance(table, Mapping) else "no table"
        raise UsageError(
            f"rows are a list of mappings, a data frame or a data set, and {type(table).__name__} is {what}"
        )
    if callable(listed := getattr(table, "to_dicts", None) or getattr(table, "to_pylist", None)):
        return [_row(row, False) for row in listed()]
    if hasattr(table, "columns") and callable(listed := getattr(table, "to_dict", None)):
        return [_row(row, True) for row in listed(orient="records")]
    if isinstance(table, Sequence):
        return [_row(row, False) for row in table]
    return _each(table)


def as_list(table: Any) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a table (mappings, a data frame or a data set) as a list of mappings by column, in their
    order. Raises UsageError for a value that has no rows, and for a row that is no mapping."""
    found = as_rows(table)
    return found if isinstance(found, list) else list(found)


def plain(value: Any) -> Any:
    """Return a value with scalars and arrays of numpy as plain values, dates and times as texts in ISO form, and missing
    values of pandas (NaT and NA, not NaN) as None, at any depth. Other values, and a value without such, are returned as
    they are."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        made = {key: plain(item) for key, item in value.items()}
        return value if all(made[key] is item for key, item in value.items()) else made
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if hasattr(value, "dtype") and callable(getattr(value, "tolist", None)):
        return plain(value.tolist())
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if callable(written := getattr(value, "isoformat", None)):
        return written()
    return value


def _each(table: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for row in table:
        yield _row(row, False)


def _row(row: Any, of_frame: bool) -> Mapping[str, Any]:
    """Return a row with plain values, of a pandas frame with None for NaN. Raises UsageError where it is no mapping."""
    if not isinstance(row, Mapping):
        raise UsageError(f"a row is a mapping from columns to values, and not {type(row).__name__}")
    made: Mapping[str, Any] = plain(row)
    if of_frame:
        return {
            str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in made.items()
        }
    return made
