"""The program of the page: compiled anew as its files change; the last version without errors stays while a file has one."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmprog.compiler import Finding, SpecError, compile_file
from lmprog.compiler.plan import Plan
from lmprog.compiler.types.python_reference import forget
from lmprog.compiler.yaml.files import State, reading, state_of
from lmprog.errors import LmprogError
from lmprog.optimizers.optimizer import installed, options_of
from lmprog.playground.rows import RowsReader
from lmprog.runtime.program import Program, program_of
from lmprog.state.watching import changes, files_to_watch


@dataclass(frozen=True)
class Snapshot:
    """The state of a program's files when they were last read: findings, and the last program that could run (None:
    none yet).

    `broken` is True where the files now hold an error, so that `program` is an earlier version or None; `defect` says
    why they could not be compiled at all (None: they were). `files` are the files to watch, each with its state.
    """

    findings: tuple[Finding, ...] = ()
    program: Program | None = None
    """The last program that could run; None where there was none yet."""
    broken: bool = False
    """True if `program` is that of the files before, since those of now hold an error."""
    defect: str | None = None
    """The reason why the files could not be compiled at all."""
    files: Mapping[Path, State] = field(default_factory=dict)
    """The files that are watched, each with its state before it was read."""


class Session:
    """The current snapshot of the program at `spec` (empty until `refresh` is called), and the number of changes so
    far, on which the open pages wait.

    `lms` are models by LM id and `overrides` values by dotted key, as on the command line. With `imports` False no code
    of the program is imported, and nothing outside of its checkout or folder is read.
    """

    def __init__(self, spec: Path, lms: Mapping[str, str], overrides: Mapping[str, Any], imports: bool = True) -> None:
        self.spec, self.imports = spec, imports
        self._lms, self._overrides = lms, overrides
        self._moved = threading.Condition()
        self._changes = 0
        self.snapshot = Snapshot()
        self.rows = RowsReader(self._on_rows)

    def refresh(self, changed: Collection[Path] = ()) -> None:
        """Compile the program's files as they are now into a new snapshot, and count a change. Python modules among the
        files `changed` are imported anew, and LMs that are declared as before are kept.

        Where the files hold an error or cannot be read, the last program that could run is kept, and nothing is raised.
        """
        if self.imports:
            forget(changed)
        self.rows.retry()
        before = self.snapshot
        try:
            found = self._compiled(before)
        except (LmprogError, OSError) as error:
            found = replace(before, findings=(), broken=True, defect=str(error))
        except Exception as error:
            # A defect of lmprog's, which must not end the watching: the next change of the file may avoid it.
            traceback.print_exc()
            defect = f"lmprog failed on this file ({type(error).__name__}: {error}); the terminal has the traceback"
            found = replace(before, findings=(), broken=True, defect=defect)
        with self._moved:
            self.snapshot = found
        self.tell()

    def follow(self, stopped: threading.Event) -> None:
        """Call `refresh` at each change of the files, and return when `stopped` is set."""
        for changed in changes(lambda: self.snapshot.files, stopped):
            self.refresh(changed)

    def _on_rows(self) -> None:
        """Make a new snapshot with the same values, so that the page is made anew with rows that took long to read."""
        with self._moved:  # or it could put back a snapshot that `refresh` replaces meanwhile
            self.snapshot = replace(self.snapshot)
        self.tell()

    def tell(self) -> None:
        """Count a change, and wake all callers of `wait`."""
        with self._moved:
            self._changes += 1
            self._moved.notify_all()

    @property
    def changes(self) -> int:
        """The number of changes so far, from 0."""
        return self._changes

    def wait(self, seen: int, seconds: float) -> int:
        """Wait until the number of changes differs from `seen`, at most `seconds`; return the number of changes then."""
        with self._moved:
            self._moved.wait_for(lambda: self._changes != seen, seconds)
            return self._changes

    def _compiled(self, before: Snapshot) -> Snapshot:
        """Return the snapshot of the files as they are now; where they hold an error, with the program of `before`."""
        with reading() as read:
            found = compile_file(
                self.spec,
                overrides=self._overrides,
                lms=self._lms,
                imports=self.imports,
                stage_configs=options_of,
                stage_names=installed,
                confined=not self.imports,
            )
        watched = files_to_watch(self.spec, found, self.imports)
        files = {path: read[path] if path in read else state_of(path) for path in watched}
        if found.plan is None:
            return replace(before, findings=found.findings, broken=True, defect=None, files={**before.files, **files})
        # An LM that is declared as before stays: to read the weights of a model anew takes seconds.
        old = before.program
        same = {id: old.lms[id] for id, lm in found.plan.lms.items() if old is not None and old.plan.lms.get(id) == lm}
        program = program_of(found.plan, self._recompile, lms=same, imports=self.imports)
        return Snapshot(found.findings, program, files=files)

    def _recompile(self, change: Mapping[str, Any]) -> Plan:
        found = compile_file(
            self.spec,
            overrides=self._overrides,
            lms=self._lms,
            change=change,
            imports=self.imports,
            data=False,
            confined=not self.imports,
        )
        if found.plan is None:
            raise SpecError(found.findings)
        return found.plan
