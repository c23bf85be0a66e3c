"""Reading of the rows of a data split, from a file or a data set of the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from lmprog.compiler.plan import HubRows, Split
from lmprog.compiler.rows.files import Row, RowsError, read_file


def read_rows(split: Split) -> list[Row]:
    """Return the rows of a split in their order, with columns renamed as the split says; raise RowsError."""
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
    """Return a row with its columns renamed as the split's `columns` says; others keep their names."""
    if not split.columns:
        return row
    taken = set(split.columns.values())
    result = {name: value for name, value in row.items() if name not in taken}
    for name, column in split.columns.items():
        if column in row:
            result[name] = row[column]
    return result


def shuffled(count: int, seed: int) -> list[int]:
    """Return the integers below `count` in an order that depends only on the seed, in every version of Python."""
    keys = [hashlib.sha256(f"{seed}:{index}".encode()).digest() for index in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def _where(rows: Iterator[Row], split: Split) -> Iterator[Row]:
    """Yield the rows with the values that `where` requires; raise RowsError where its column is in no row."""
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
    """Yield the rows of a split of `owner/name` or `owner/name:config` on the Hugging Face hub; raise RowsError."""
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError:
        raise RowsError(f"cannot read hf: {named}: install datasets") from None
    name, _, config = named.partition(":")
    try:
        found = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:
        raise RowsError(f"cannot read hf: {named}: {error}") from None
    for row in found:
        yield dict(row)
