"""Files of results that replace the one before when they are whole, with what they are made from beside them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import open_private
from lmprog.state.json_lines import as_line
from lmprog.state.origin import Origin, beside
from lmprog.state.ownership import exclusive_writer


class WholeResults:
    """JSON lines that stand in `NAME.part` until all are there, and then take the place of the file; a context manager.

    What is cut stays in `NAME.part`, and the file is as it was. Raises WriterLocked while another process writes the same file.
    """

    def __init__(self, path: Path, origin: Origin, *, private: bool = False) -> None:
        """Open the partial file; `private`: only its owner may read it."""
        self._path, self._origin = path, origin
        self.part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._owning = ExitStack()
        self._owning.enter_context(exclusive_writer(path))
        self._file = open_private(self.part, "wb") if private else self.part.open("wb")

    def add(self, value: Any) -> None:
        """Append a value as a line, which is on the disk when this returns."""
        self._file.write(as_line(value))
        self._file.flush()

    def keep(self) -> None:
        """Put the lines in the place of the file."""
        self._file.close()
        self._origin.write(beside(self._path))
        os.replace(self.part, self._path.resolve())

    def __enter__(self) -> WholeResults:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._file.close()
            if self.part.exists() and self.part.stat().st_size == 0:
                self.part.unlink()
        finally:
            self._owning.close()
