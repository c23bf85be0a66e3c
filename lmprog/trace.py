"""Traces on disk: one call of an LM or a tool a line, as JSON. What a crash or a full disk tore is passed over on reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lmprog.compiler.whole_file import open_private
from lmprog.invocation import Record


class TraceWriter:
    """Appends the records of runs to a file, which only its owner may read unless `shared`; a context manager."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        self._file = path.open("ab", buffering=0) if shared else open_private(path, "ab", buffering=0)
        self._torn = False

    def write(self, records: Iterable[Record]) -> None:
        """Append; all lines of one call reach the file in one write. Raises OSError where the disk takes no more."""
        lines = b"".join(as_line(made.as_json()) for made in records)
        if not lines:
            return
        if self._torn:
            # What an earlier write left is then a line of its own, and spoils none of ours.
            lines = b"\n" + lines
        self._torn = True
        while lines:
            lines = lines[self._file.write(lines) :]
        self._torn = False

    def drop_rows_from(self, row: int) -> None:
        """Remove the records at the end that are of `row` or a later one: a resumed run makes them again."""
        position, end = 0, 0
        with Path(self._file.name).open("rb") as file:
            for line in file:
                position += len(line)
                example = json.loads(line).get("example")
                if not isinstance(example, int) or example < row:
                    end = position
        self._file.truncate(end)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()


def as_line(value: Any) -> bytes:
    """A value as one line of JSON, in UTF-8; half a surrogate pair, which UTF-8 has not, stands as an escape."""
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n"


def read_trace(path: Path, on_unreadable: Callable[[int], None] | None = None) -> Iterator[dict[str, Any]]:
    """The records of a trace, in their order. A line that is no record is passed over; its number, from 1, is told."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            elif on_unreadable is not None and line.strip():
                on_unreadable(number)


def read_lines(path: Path) -> Iterator[Any]:
    """The values of a JSON-lines file that is only ever appended to; a torn last line is passed over."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def cut_torn_line(path: Path) -> None:
    """Remove what a killed writer left behind the last whole line, so that appending goes on cleanly."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, 2)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)
