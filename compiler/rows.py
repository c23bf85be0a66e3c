"""Reading the rows of a data split: jsonl, csv, parquet, or a data set of the Hugging Face hub."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import Split

Row = dict[str, Any]


class RowsError(Exception):
    """Data that cannot be read; the message says which file and line, and why."""


def read_rows(split: Split) -> list[Row]:
    """The rows of a split in order, with the program's names for its columns. Raises RowsError."""
    source = read_hub(split.hf, split.hf_split or split.name) if split.hf else read_file(_path(split))
    if split.where:
        source = _where(source, split)
    rows = list(source if split.share is not None else islice(source, split.limit))
    if split.share is not None:
        low, high = split.share
        order = shuffled(len(rows), split.seed)
        rows = [rows[index] for index in order[round(low * len(rows)) : round(high * len(rows))]]
    if split.limit is not None:
        rows = rows[: split.limit]
    return [renamed(row, split) for row in rows]


def renamed(row: Row, split: Split) -> Row:
    """The row under the program's names: `columns` maps a name to a column, other columns keep their own."""
    if not split.columns:
        return row
    taken = set(split.columns.values())
    result = {name: value for name, value in row.items() if name not in taken}
    for name, column in split.columns.items():
        if column in row:
            result[name] = row[column]
    return result


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count` in an order that the seed alone decides, in every version of Python."""
    keys = [hashlib.sha256(f"{seed}:{index}".encode()).digest() for index in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def read_file(path: Path) -> Iterator[Row]:
    """The rows of one file, by its ending. Raises RowsError."""
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RowsError(f"{path.name} is no data file that can be read: use jsonl, csv or parquet")
    try:
        yield from reader(path)
    except OSError as error:
        raise RowsError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RowsError(f"cannot read {path}: it is not UTF-8 text") from error


def _where(rows: Iterator[Row], split: Split) -> Iterator[Row]:
    """The rows with the values that `where` asks for. Raises RowsError where its column is in no row."""
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


def _path(split: Split) -> Path:
    assert split.path is not None
    return split.path


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise RowsError(f"{path}:{number}: this line is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise RowsError(f"{path}:{number}: a row is an object, not {type(row).__name__}")
            yield row


def _csv(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows: list[Row] = []
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter, restkey="", strict=True)
        try:
            for row in reader:
                if "" in row or None in row.values():
                    raise RowsError(f"{path}:{reader.line_num}: this row does not have as many fields as the header")
                rows.append(dict(row))
        except csv.Error as error:
            raise RowsError(f"{path}:{reader.line_num}: {error}") from None
    for name in rows[0] if rows else ():
        for pattern, convert in _NUMBERS:
            if all(pattern.match(row[name]) for row in rows):
                for row in rows:
                    row[name] = convert(row[name])
                break
    yield from rows


_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"^-?(?:0|[1-9][0-9]{0,17})$"), int),
    (re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"), float),
)
"""A column of a csv file is numbers where every value is written as one (and `007` is not)."""


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise RowsError(f"cannot read {path}: install pyarrow for parquet files") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise RowsError(f"cannot read {path}: {error}") from None
    yield from table.to_pylist()


def read_hub(named: str, split: str) -> Iterator[Row]:
    """The rows of a split of `owner/name` or `owner/name:config` on the Hugging Face hub. Raises RowsError."""
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
