"""Readers of rows from jsonl, csv and parquet files, with messages that name the file, the line and the fix."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lmprog.compiler.errors import LmprogError
from lmprog.compiler.types.lattice import MAX_DEPTH, STR, Enum, Type, without_none
from lmprog.compiler.yaml.files import note, opened

Row = dict[str, Any]
MAX_NESTING = MAX_DEPTH + 50
"""Brackets within each other that are read in a row: more than any value of a type may have."""
UNREAD = '"(nested too deep to be read)"'
"""A JSON text that stands for a part of a row which is not read."""
BATCH = 1000
"""Rows of a parquet file that are read at once."""


class RowsError(LmprogError):
    """The error of data that cannot be read; the message says why, and in front `place`, the file and line, where it is
    given."""

    def __init__(self, cause: str, place: str | None = None) -> None:
        super().__init__(f"{place}: {cause}" if place is not None else cause)
        self.place = place


def read_file(path: Path, texts: Collection[str] = ()) -> Iterator[Row]:
    """Yield the rows of a file as mappings by column; its ending (jsonl, ndjson, csv, tsv, parquet) decides the format.
    Blank lines are passed over. Raises RowsError for a file or row that cannot be read, when it is reached.

    A column of a csv or tsv file is read as numbers where all of its values are written as numbers, except the columns
    in `texts`; else its values are texts, an empty field an empty one. NaN and infinity of a parquet file are null.
    """
    note(path)
    ending = path.suffix.lower()
    if ending not in _READERS:
        fix = "write one JSON object a line, as jsonl" if ending == ".json" else "use jsonl, csv or parquet"
        raise RowsError(f"{path.name} is no data file that can be read: {fix}")
    try:
        yield from _READERS[ending](path, texts)
    except OSError as error:
        raise RowsError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RowsError(f"cannot read {path}: it is {_encoding(path)}; save it as UTF-8") from error


def row_place(path: Path, index: int) -> str:
    """Return the place of the row number `index` (from 0) of a jsonl, csv or tsv file as it stands behind a message, as
    ` (dev.jsonl:5)` with the line from 1; empty where it is not known. The file is read up to that row."""
    try:
        with opened(path, newline="") as text:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                numbers = (number for number, written in enumerate(text, start=1) if written.strip())
            elif path.suffix.lower() in (".csv", ".tsv"):
                import csv

                reader = csv.reader(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                next(reader, None)
                numbers = (reader.line_num for fields in reader if any(fields))
            else:
                return ""
            line = next(islice(numbers, index, None), None)
    except (OSError, ValueError):
        return ""
    return f" ({path.name}:{line})" if line is not None else ""


def as_column(value: Any, kind: Type) -> Any:
    """Return the value of a column as its declared type `kind` wants it: a number (no boolean) becomes a text where
    that is str or `str?`; any other value is returned as it is, whether it fits or not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number and without_none(kind) == STR else value


def corpus_texts(names: Iterable[str], kinds: Mapping[str, Type]) -> frozenset[str]:
    """Return which of the columns `names` of a corpus are texts, and stay as a csv file has them: all but those that `kinds`
    declares as a type other than str and enums."""
    declared = {name: without_none(kinds.get(name, STR)) for name in names}
    return frozenset(name for name, kind in declared.items() if kind == STR or isinstance(kind, Enum))


def _encoding(path: Path) -> str:
    """Return what a file that is no UTF-8 holds, in words."""
    with path.open("rb") as file:
        start = file.read(2)
    return "UTF-16 text" if start in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8 text"


def _jsonl(path: Path, texts: Collection[str]) -> Iterator[Row]:
    with opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = _ROW.decode(_readable(line))
            except ValueError as error:
                said = str(error).partition(": line ")[0]
                if said.startswith("Exceeds the limit"):
                    said = "a number has more digits than can be read; write it as a text"
                whole = "; write each row as one object on one line" if number == 1 and line.strip() in "{[" else ""
                raise RowsError(f"this line is not JSON: {said}{whole}", f"{path}:{number}") from None
            if not isinstance(row, dict):
                fix = "; write each row of the list on a line of its own" if isinstance(row, list) else ""
                raise RowsError(f"a row is an object, not {type(row).__name__}{fix}", f"{path}:{number}")
            yield row


_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]')


def _readable(line: str) -> str:
    """Return a row's line with the text UNREAD in the place of parts nested deeper than MAX_NESTING, so that their values
    alone are refused where a type is wanted."""
    if line.count("[") + line.count("{") <= MAX_NESTING:
        return line
    depth, start, parts = 0, 0, []
    for bracket in _BRACKETS.finditer(line):
        if bracket[0] in "[{":
            depth += 1
            if depth == MAX_NESTING + 1:
                parts += [line[start : bracket.start()], UNREAD]
        elif bracket[0] in "]}":
            depth -= 1
            if depth == MAX_NESTING:
                start = bracket.end()
    return "".join(parts if depth > MAX_NESTING else [*parts, line[start:]])


def _object(pairs: list[tuple[str, Any]]) -> Row:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"the key {_repeated(key for key, _ in pairs)!r} stands twice in one object")
    return made


def _repeated(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value of JSON; write null")


_ROW = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _csv(path: Path, texts: Collection[str]) -> Iterator[Row]:
    import csv

    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a field may be a whole document
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with opened(path, newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            places = [(reader.line_num, fields) for fields in reader if any(fields)]
        except csv.Error as error:
            raise RowsError(str(error), f"{path}:{reader.line_num}") from None
    names = _columns(path, header, [fields for _, fields in places], delimiter)
    rows = []
    for line, fields in places:
        if len(fields) < len(header) or any(fields[len(header) :]):
            raise RowsError(f"this row has {len(fields)} fields, and the header {len(header)}", f"{path}:{line}")
        rows.append({name: fields[place] for place, name in names.items()})
    for name in {*names.values()} - {*texts}:
        _as_numbers(rows, name)
    yield from rows


def _columns(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> dict[int, str]:
    """Return the name of each column by its place in a row, from 0.

    A column without a name is left out where it is the first, as the index that pandas writes, or empty, as after a comma
    at the end of each line. Raises RowsError for any other, for two columns of one name, and for a header that another
    delimiter divides.
    """
    names = {}
    for place, name in enumerate(header):
        if name.strip():
            names[place] = name
        elif place > 0 and any(place < len(fields) and fields[place] for fields in rows):
            raise RowsError(f"column {place + 1} has values and no name; name it in the header", f"{path}:1")
    if len(set(names.values())) < len(names):
        raise RowsError(
            f"the header names the column {_repeated(names.values())!r} twice; rename one of them", f"{path}:1"
        )
    other = next((mark for mark in ";\t|" if mark != delimiter and mark in "".join(names.values())), None)
    if len(names) == 1 and other is not None:
        raise RowsError(
            f"the header is one field that holds {other!r}; separate fields by commas (.csv) or tabs (.tsv)",
            f"{path}:1",
        )
    return names


_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"^-?(?:0|[1-9][0-9]{0,399})$"), int),
    (re.compile(r"^-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"), float),
)
"""A column of a csv file is numbers where every value is written as one, which `007` is not. Whole numbers stay exact,
with as many digits as an id may have."""


def _as_numbers(rows: Sequence[Row], name: str) -> None:
    """Replace the texts of a column by numbers in place, where all of them are written as whole or as decimal numbers, and
    none as a decimal number above 1.8e308, which would be infinity."""
    for pattern, convert in _NUMBERS:
        if rows and all(pattern.match(row[name]) for row in rows):
            numbers = [convert(row[name]) for row in rows]
            if convert is int or all(map(math.isfinite, numbers)):
                for row, number in zip(rows, numbers, strict=True):
                    row[name] = number
            return


def _parquet(path: Path, texts: Collection[str]) -> Iterator[Row]:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise RowsError(f"cannot read {path}: install pyarrow for parquet files") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            index = _pandas_index(file.schema_arrow.metadata)
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    yield {name: _plain(value) for name, value in row.items() if name not in index}
    except pyarrow.ArrowException as error:
        raise RowsError(f"cannot read {path}: {error}") from None


def _pandas_index(metadata: Any) -> set[str]:
    """Return the columns in which pandas has stored an index without a name, from a parquet file's metadata."""
    try:
        kept = json.loads((metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except ValueError:
        return set()
    return {name for name in kept if isinstance(name, str) and name.startswith("__index_level_")}


def _plain(value: Any) -> Any:
    """Return a value of a table with null for NaN and infinity, which tables write for what is missing and JSON lacks.

    Dates, decimals and other values that the language has no type for stay as they are: `check` reports those that are
    read.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


_READERS: dict[str, Callable[[Path, Collection[str]], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
