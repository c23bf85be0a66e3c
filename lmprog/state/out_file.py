"""The file of `lmprog run --out`: one JSON line a row, appended as rows end, from which an interrupted run goes on."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lmprog.compiler.yaml.whole_file import whole_file
from lmprog.errors import UsageError
from lmprog.failure import Recovered
from lmprog.state import identity
from lmprog.state.json_lines import PassedOver, as_line, cut_torn_line, object_in
from lmprog.state.origin import Origin, beside, read_origin
from lmprog.state.ownership import exclusive_writer
from lmprog.state.unchanged import Unchanged

INPUTS = "--inputs"
CUT = "the command was cut off after this row had called a tool that writes"
"""The error in the line that is written before a row calls a tool that writes; a killed command leaves it behind."""


class OutFile:
    """The file of the outputs of a run over rows; a context manager, and the only writer of the file.

    A row has a line `{"row", "outputs", "error"}`, with `"wrote": true` where it failed after a call of a tool that
    writes, and with `"recovered"`, a list of failures, where steps failed and were answered by their `on_error`. Rows
    without a line, or whose line has an error, are still to be run; those with `wrote` only with `repeat_writes`. New
    lines are appended, so that nothing is lost by a kill; when the file is closed, after an error too, it gets one line
    for each row that has one, in the order of the rows. Making it raises UsageError for a file that no run has written,
    or that was begun from other sources, and WriterLocked while another process writes it.
    """

    def __init__(
        self,
        path: Path,
        origin: Origin,
        inputs: Iterator[Mapping[str, Any]],
        unchanged: Unchanged | None = None,
        *,
        repeat_writes: bool = False,
    ) -> None:
        """Open the file at `path`, and read `inputs`, the rows of the run, through once.

        `origin` lacks what depends on the inputs, which is added here, and is stored beside the file. `unchanged` is a
        watch on source files that is consulted before each line (None: there is none). With `repeat_writes` rows that
        failed after a call of a tool that writes are run again.
        """
        self.path = path
        self._unchanged, self._repeat_writes = unchanged, repeat_writes
        self._wrote: set[int] = set()
        self._cut: set[int] = set()
        """The rows whose only line is the one that was written before a tool was called."""
        self.passed_over = PassedOver()
        self._owning = ExitStack()
        self._owning.enter_context(exclusive_writer(path))
        try:
            self._begin(origin, inputs)
        except BaseException:
            self._owning.close()
            raise

    def _begin(self, origin: Origin, inputs: Iterator[Mapping[str, Any]]) -> None:
        """Compare the file's origin with this run's, take the lines that are there, store the new origin, and open the file
        to append. Raises UsageError where the file is of another run."""
        path, marker = self.path, beside(self.path)
        there = path.exists() and path.stat().st_size > 0
        recorded = read_origin(marker) if path.exists() else None
        if there and recorded is None:
            raise UsageError(_strange(path))
        digest, prefix = identity.RowsDigest(), None
        for row in inputs:
            digest.add(row)
            if recorded is not None and digest.rows == recorded.rows:
                prefix = digest.hex
        self.total = digest.rows
        source_digests = {**origin.made_from, INPUTS: digest.hex}
        if recorded is not None:
            # Rows that were added at the end are new rows of the same file.
            now = {**source_digests, INPUTS: prefix or digest.hex}
            changed = identity.changes(recorded.made_from, now)
            if changed and not there:  # a kill left nothing to go on with
                recorded = None
            elif changed:
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
        self.traces = {**origin.traces, **(recorded.traces if recorded is not None else {})}
        replace(origin, made_from=source_digests, rows=self.total, traces=self.traces).write(marker)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")
        self._end = path.stat().st_size

    def _read(self) -> None:
        """Take the lines of the file; those that are no lines of a row are passed over."""
        position = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                values = object_in(line)
                row = values.get("row") if isinstance(values, dict) else None
                if isinstance(values, str):
                    self.passed_over.add(number, values)
                elif not isinstance(row, int) or not 0 <= row < self.total or not _is_line(values):
                    self.passed_over.add(number, "of no row")
                else:
                    self._note(row, position, values["error"], values.get("wrote") is True)
                    position += len(line)
                    continue
                self._ordered = False
                position += len(line)

    def _note(self, row: int, position: int, error: str | None, wrote: bool) -> None:
        """Take the line at a position of the file as that of the row, unless an earlier one is without an error and this
        one is not. `wrote` is True where the row has called a tool that writes."""
        self._ordered = self._ordered and row == self._last + 1
        self._last = row
        good = error is None
        if good or not self._good[row]:
            self._places[row], self._good[row] = position, good
            for rows, held in ((self._wrote, wrote), (self._cut, error == CUT)):
                (rows.add if held else rows.discard)(row)

    @property
    def missing_from(self) -> int:
        """The number of the row after the last one that has ended, with or without an error; 0 where none has. A row that was
        cut off after a call of a tool that writes has not ended."""
        return max((row + 1 for row in range(self.total) if self._places[row] >= 0 and row not in self._cut), default=0)

    @property
    def done(self) -> int:
        """The number of rows that have a line without an error."""
        return sum(self._good)

    @property
    def failed(self) -> int:
        """The number of rows whose line has an error, those that were cut off included."""
        return sum(place >= 0 for place in self._places) - self.done

    @property
    def held(self) -> frozenset[int]:
        """The numbers of the rows that failed or were cut off after a call of a tool that writes, and so are not run again;
        empty with `repeat_writes`.
        """
        return frozenset() if self._repeat_writes else frozenset(self._wrote)

    def to_do(self) -> bytes:
        """Return one byte for each row: 1 where the row is still to be run, 0 where it is not."""
        held = self.held
        return bytes(not good and row not in held for row, good in enumerate(self._good))

    def before_write(self, row: int | str) -> None:
        """Append a line that marks the row with the number `row` (never a text) as cut off, once; a later line of the
        row replaces it.

        It is called before each call of a tool that writes, so that a killed command leaves the mark. Raises UsageError
        where a source file of the run has changed since it began.
        """
        assert isinstance(row, int)
        if row not in self._wrote:
            self._append(row, None, CUT, wrote=True)

    def add(
        self, row: int, outputs: Mapping[str, Any] | None, error: str | None, recovered: Sequence[Recovered] = ()
    ) -> None:
        """Add the line of a row that has ended: its number, its outputs (None: it failed), or its error (None: it did
        not), and the failures that an `on_error` answered, where there are any. Raises UsageError where a source file of the
        run has changed since it began."""
        more = {"recovered": [each.as_json() for each in recovered]} if recovered else {}
        self._append(row, outputs, error, wrote=error is not None and row in self._wrote, **more)

    def _append(
        self, row: int, outputs: Mapping[str, Any] | None, error: str | None, *, wrote: bool, **more: Any
    ) -> None:
        if self._unchanged is not None:
            self._unchanged.require()
        line = as_line({"row": row, "outputs": outputs, "error": error, **({"wrote": True} if wrote else {}), **more})
        self._file.write(line)
        self._file.flush()
        self._note(row, self._end, error, wrote)
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
        """Write the line of each row that has one, in the order of the rows, to a file that then takes the place of this
        one."""
        with self.path.open("rb") as old, whole_file(self.path) as file:
            for place in self._places:
                if place >= 0:
                    old.seek(place)
                    file.write(old.readline())


def _strange(path: Path) -> str:
    """Return why a file without an origin beside it is left alone."""
    with path.open("rb") as file:
        found = object_in(file.readline())
    if isinstance(found, dict) and _is_line(found):
        return (
            f"{path} holds rows, but {beside(path).name}, which says what they are made from, is not beside it; "
            "name another file, or remove this one to begin anew"
        )
    return f"{path} is not what `lmprog run --out` writes, so it is left alone; name another file"


def _is_line(found: Mapping[str, Any]) -> bool:
    return found.keys() - {"wrote", "recovered"} == {"row", "outputs", "error"}
