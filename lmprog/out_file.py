"""The file of `run --out`: a line for each row, what it is made from beside it, and which rows are still to be run."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lmprog import identity
from lmprog.errors import UsageError
from lmprog.json_lines import PassedOver, as_line, cut_torn_line, object_in
from lmprog.origin import Origin, beside, read_origin
from lmprog.ownership import owned
from lmprog.unchanged import Unchanged

INPUTS = "--inputs"


class OutFile:
    """The outputs of a run over rows; a context manager, and the only writer of the file.

    A row has a line `{"row", "outputs", "error"}`. Rows without a line, or whose line has an error, are to be run. While they
    are, new lines are appended, so that nothing is lost by a kill; when the file is closed there is one line for each row, in
    the order of the rows. Raises UsageError for a file that no run has written, or that was begun from something else, and
    Owned while another process writes it.
    """

    def __init__(
        self, path: Path, origin: Origin, inputs: Iterator[Mapping[str, Any]], unchanged: Unchanged | None = None
    ) -> None:
        """`origin` lacks what is known of the inputs, which are read through once; `unchanged` is asked before each line."""
        self.path = path
        self._unchanged = unchanged
        self.passed_over = PassedOver()
        self._owning = ExitStack()
        self._owning.enter_context(owned(path))
        try:
            self._begin(origin, inputs)
        except BaseException:
            self._owning.close()
            raise

    def _begin(self, origin: Origin, inputs: Iterator[Mapping[str, Any]]) -> None:
        path, marker = self.path, beside(self.path)
        there = path.exists() and path.stat().st_size > 0
        kept = read_origin(marker) if there else None
        if there and kept is None:
            raise UsageError(_strange(path))
        digest, prefix = identity.RowsDigest(), None
        for row in inputs:
            digest.add(row)
            if kept is not None and digest.rows == kept.rows:
                prefix = digest.hex
        self.total = digest.rows
        made_from = {**origin.made_from, INPUTS: digest.hex}
        if kept is not None:
            # Rows that were added at the end are new rows of the same file.
            now = {**made_from, INPUTS: prefix or digest.hex}
            changed = identity.changes(kept.made_from, now)
            if changed:
                raise UsageError(
                    f"{path} was begun from something else: {identity.in_words(changed)}. Undo that, name another file, or "
                    f"remove {path} to begin anew"
                )
        self._places = array("q", [-1]) * self.total
        self._good = bytearray(self.total)
        self._ordered = True
        self._last = -1
        if there:
            self._read()
            cut_torn_line(path)
        replace(origin, made_from=made_from, rows=self.total).write(marker)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")
        self._end = path.stat().st_size

    def _read(self) -> None:
        position = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                found = object_in(line)
                row = found.get("row") if isinstance(found, dict) else None
                if isinstance(found, str):
                    self.passed_over.add(number, found)
                elif (
                    not isinstance(row, int) or not 0 <= row < self.total or found.keys() != {"row", "outputs", "error"}
                ):
                    self.passed_over.add(number, "of no row")
                else:
                    self._note(row, position, found["error"] is None)
                    position += len(line)
                    continue
                self._ordered = False
                position += len(line)

    def _note(self, row: int, position: int, good: bool) -> None:
        """Take a line for the row's, unless an earlier one is good and this one is not."""
        self._ordered = self._ordered and row == self._last + 1
        self._last = row
        if good or not self._good[row]:
            self._places[row], self._good[row] = position, good

    @property
    def missing_from(self) -> int:
        """The number of the first row behind all that have a line."""
        return max((row + 1 for row in range(self.total) if self._places[row] >= 0), default=0)

    @property
    def done(self) -> int:
        """How many rows have a line without an error."""
        return sum(self._good)

    @property
    def failed(self) -> int:
        """How many rows have a line with an error."""
        return sum(place >= 0 for place in self._places) - self.done

    def to_do(self) -> bytes:
        """Return for each row whether it is to be run."""
        return bytes(not good for good in self._good)

    def add(self, row: int, outputs: Mapping[str, Any] | None, error: str | None) -> None:
        """Append the line of a row. Raises UsageError where a file that it is made from has changed."""
        if self._unchanged is not None:
            self._unchanged.require()
        line = as_line({"row": row, "outputs": outputs, "error": error})
        self._file.write(line)
        self._file.flush()
        self._note(row, self._end, error is None)
        self._end += len(line)

    def __enter__(self) -> OutFile:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._file.close()
            if not self._ordered:
                self._order()
        finally:
            self._owning.close()

    def _order(self) -> None:
        """Write the lines of the rows in their order, each once, to a file that then takes the place of this one."""
        new = self.path.resolve()
        scratch = new.with_name(f".{new.name}.new")
        with self.path.open("rb") as old, scratch.open("wb") as file:
            for place in self._places:
                if place >= 0:
                    old.seek(place)
                    file.write(old.readline())
        os.replace(scratch, new)


def _strange(path: Path) -> str:
    with path.open("rb") as file:
        found = object_in(file.readline())
    if isinstance(found, dict) and found.keys() == {"row", "outputs", "error"}:
        return (
            f"{path} holds rows, but {beside(path).name}, which says what they are made from, is not beside it; "
            "name another file, or remove this one to begin anew"
        )
    return f"{path} is not what `lmprog run --out` writes, so it is left alone; name another file"
