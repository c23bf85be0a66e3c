"""What a benchmark of hours has finished, a JSON line each: kept as soon as it is there, and by several processes at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from lmprog import UsageError
from lmprog.state.json_lines import as_line, cut_torn_line


class Finished(Protocol):
    """A dataclass whose `key` says which one of all it is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> tuple[Any, ...]: ...


T = TypeVar("T", bound=Finished)


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the values of a file of JSON lines; a torn last line is passed over. Raises ValueError for any other."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class Ledger(Generic[T]):
    """Raises UsageError for a file that holds something else. A last line that was cut behind whole ones is dropped."""

    def __init__(self, path: Path, of: Callable[[Any], T]) -> None:
        """`of` gives back what dataclasses.asdict made of a T; it may raise ValueError, KeyError or TypeError."""
        self.path, self._of = path, of
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.read():
            cut_torn_line(path)

    def read(self) -> list[T]:
        """All that is in the file now: another process may have added to it."""
        if not self.path.exists():
            return []
        try:
            found = [self._of(values) for values in read_lines(self.path)]
            if not found and self.path.stat().st_size:
                raise ValueError("no line of it is whole")
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.path} is not a ledger of this version ({type(error).__name__}: {error}); name another with --ledger"
            ) from None
        return found

    def find(self, *key: Any) -> T | None:
        return next((made for made in self.read() if made.key == key), None)

    def add(self, made: T) -> None:
        with self.path.open("ab") as file:
            file.write(as_line(asdict(made)))
            file.flush()
            os.fsync(file.fileno())
