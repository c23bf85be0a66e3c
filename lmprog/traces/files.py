"""Trace files: one LM or tool call a line, as JSON, and after the calls of a run one line for the run.

Lines that a crash or a full disk tore are left out on reading.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import open_private
from lmprog.errors import UsageError
from lmprog.state.json_lines import PassedOver, cut_torn_line, object_in, read_objects, versioned_line
from lmprog.state.ownership import exclusive_writer
from lmprog.traces.record import Record
from lmprog.traces.run_record import RunRecord
from lmprog.traces.summary import is_record

_BEGIN = b'{"version": '
"""The beginning of each line of a trace."""


class TraceWriter:
    """Appends records of runs to a trace file; a context manager. Folders of the path are made.

    Without `shared` it is the only writer, or raises WriterLocked; only the owner may read a file that it makes, and a torn
    last line is removed. With `shared` several processes append, each of them whole lines, and others may read the file. Raises
    UsageError for a file with content that is no trace, which stays as it is, and without `shared` for a pipe, device or
    folder; and OSError where the file cannot be opened.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path.resolve()
        self._shared = shared
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_others(path)
        if not shared and path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file, which a trace is, so that it can be locked; name a file")
        self._owning = ExitStack()
        if not shared:
            self._owning.enter_context(exclusive_writer(path))
            cut_torn_line(path)
        self._file = path.open("ab", buffering=0) if shared else open_private(path, "ab", buffering=0)
        # A torn line of a shared file is left there: it may be one that another process is just writing.
        self._torn = shared and path.stat().st_size > 0 and not _ends_whole(path)

    def write(self, records: Iterable[Record | RunRecord]) -> None:
        """Append records; the lines of one call are written together. Raises OSError where the disk is full; what is written
        then may end in a torn line, which a reader leaves out.

        The record of a whole run is written without private values to a shared file, which others may read.
        """
        lines = b"".join(versioned_line(self._plain(made)) for made in records)
        if not lines:
            return
        if self._torn:
            # What an earlier write left is then a line of its own, and spoils none of ours.
            lines = b"\n" + lines
        self._torn = True
        while lines:
            lines = lines[self._file.write(lines) :]
        self._torn = False

    def _plain(self, made: Record | RunRecord) -> dict[str, Any]:
        return made.as_json(shared=self._shared) if isinstance(made, RunRecord) else made.as_json()

    @property
    def end(self) -> int:
        """The length of the file in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def drop_rows(self, begin: int, row: int, kept: Collection[int] = ()) -> None:
        """Cut the file after the last line that stays, for a resumed run, which makes the records behind it again.

        Lines stay that begin before byte `begin`, are of a row before number `row` or of a row in `kept`, or have no row
        number, as those that cannot be read; so does every line before one that stays.
        """
        position = end = min(begin, self.end)
        with Path(self._file.name).open("rb") as file:
            file.seek(position)
            for line in file:
                position += len(line)
                found = object_in(line)
                example = None if isinstance(found, str) else found.get("example")
                if not isinstance(example, int) or example < row or example in kept:
                    end = position
        self._file.truncate(end)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and release its lock."""
        self._file.close()
        self._owning.close()


def read_trace(path: Path, passed_over: PassedOver | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of a trace file as dictionaries, in their order. Unreadable lines are left out and added to
    `passed_over` (None: they are dropped). Iterating raises UsageError for a line of another version of the file, and
    OSError where it cannot be opened."""
    return read_objects(path, passed_over)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def refuse_others(path: Path) -> None:
    """Raise UsageError where a regular file has content and its first line is no record of a trace, nor the beginning of one
    that a crash has torn.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        line = file.readline()
    found = object_in(line.rstrip(b"\n") + b"\n")
    is_trace = is_record(found) if isinstance(found, dict) else line.startswith(_BEGIN) or _BEGIN.startswith(line)
    if not is_trace:
        raise UsageError(f"{path} is no trace, so it is left alone; name another file")
