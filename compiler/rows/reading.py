"""Reading of the rows of a data split, from a file or a data set of the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from lmprog.compiler.plan import HubRows, Split
from lmprog.compiler.rows.files import Row, RowsError, read_file


def read_rows(split: Split) -> list[Row]:
    """Return the rows of a split, read from its file or from the hub: those that `where` names, of these the split's
    share, at most `limit`, with columns renamed. They have the order of the source; those of a share that of a shuffle
    by the split's seed. Raises RowsError where they cannot be read.
    """
    source = split.source
    found = read_hub(source.hf, source.split) if isinstance(source, HubRows) else read_file(source, split.texts)
    if split.where:
        found = _where(found, split)
    rows = list(found if split.share is not None else islice(found, split.limit))
    if split.share is not None:
        low, high = split.share
        order = shuffled(len(rows), split.seed)
        rows = [rows[index] for index in order[round(low * len(rows)) : round(high * len(rows))]]
    if split.limit is not None:
        rows = rows[: split.limit]
    return [renamed(row, split) for row in rows]


def renamed(row: Row, split: Split) -> Row:
    """Return a row with its columns renamed as the split's `columns` (new name to column) says; others keep their names,
    but one that has a new name is replaced. A column that the row lacks is passed over."""
    if not split.columns:
        return row
    taken = set(split.columns.values())
    result = {name: value for name, value in row.items() if name not in taken}
    for name, column in split.columns.items():
        if column in row:
            result[name] = row[column]
    return result


def shuffled(count: int, seed: int) -> list[int]:
    """Return the integers from 0 to `count` - 1, shuffled in an order that depends on `seed` and `count` alone, in every
    version of Python."""
    keys = [hashlib.sha256(f"{seed}:{index}".encode()).digest() for index in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def _where(rows: Iterator[Row], split: Split) -> Iterator[Row]:
    """Yield the rows with the values that the split's `where` requires, one or any of a list for each column. At the end
    raise RowsError for a column that was in no row."""
    seen: set[str] = set()
    for row in rows:
        seen |= row.keys()
        wanted = ((value if isinstance(value, list) else [value], row.get(name)) for name, value in split.where.items())
        if all(found in values for values, found in wanted):
            yield row
    absent = next((name for name in split.where if name not in seen), None)
    if absent is not None:
        columns = ", ".join(sorted(seen)) or "none"
        raise RowsError(f"`where` names the column {absent!r}, which no row has; columns: {columns}")


def read_hub(named: str, split: str) -> Iterator[Row]:
    """Yield the rows of the split `split` of `owner/name` or `owner/name:config` on the Hugging Face hub, which are
    downloaded or come from its cache. Raises RowsError, when a row is asked for, where `datasets` is not installed or
    cannot load them."""
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError:
        raise RowsError(f"cannot read hf: {named}: install datasets") from None
    name, _, config = named.partition(":")
    try:
        for row in datasets.load_dataset(name, config or None, split=split):
            yield dict(row)
    except Exception as error:
        raise RowsError(f"cannot read hf: {named}: {error}") from None
