"""Result files that replace the previous version only when they are complete."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import open_part, take_place
from lmprog.state.json_lines import as_line
from lmprog.state.origin import Origin, beside
from lmprog.state.ownership import exclusive_writer


class WholeResults:
    """A writer of JSON lines into `NAME.part`, which `keep` then moves to NAME; a context manager.

    Lines of an interrupted command stay in `NAME.part` until the next one empties it, and NAME stays as it was before;
    an empty `NAME.part` is removed at the end. Raises WriterLocked while another process writes the same file.
    """

    def __init__(self, path: Path, origin: Origin, *, private: bool = False) -> None:
        """Open `NAME.part`, emptied, for the results file `path`, whose folder is made; with `private` only its owner may
        read it. `origin` is what the results are made from."""
        self._path, self._origin = path, origin
        self.part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._owning = ExitStack()
        self._owning.enter_context(exclusive_writer(path))
        self._file = open_part(self.part, private=private)

    def add(self, value: Any) -> None:
        """Append a value as a line of JSON, which outlives the end of this process (not of the machine) when this
        returns."""
        self._file.write(as_line(value))
        self._file.flush()

    def keep(self) -> None:
        """Complete the file: store the origin beside it, and move `NAME.part` to NAME. Nothing can be added then."""
        self._file.close()
        self._origin.write(beside(self._path))
        take_place(self.part, self._path)

    def __enter__(self) -> WholeResults:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._file.close()
            if self.part.exists() and self.part.stat().st_size == 0:
                self.part.unlink()
        finally:
            self._owning.close()
