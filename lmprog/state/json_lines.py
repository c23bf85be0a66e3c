"""Files of JSON lines that are only appended to (journals, traces): one tolerant reader, and one way to write a line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmprog.errors import UsageError

VERSION = 1
"""The format of journals, traces and run.json. A line or file without a version is read as one of this version."""


@dataclass
class PassedOver:
    """The lines of a file that a reader left out: their numbers, from 1, and how many had each fault, such as `torn`. It is
    true where there are any."""

    numbers: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, fault: str) -> None:
        """Add a line by its number and its fault, such as `torn`."""
        self.numbers.append(number)
        self.faults[fault] += 1

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def __str__(self) -> str:
        """Return a sentence with the number of lines left out, the numbers of the first ten, and the faults."""
        count = len(self.numbers)
        lines = "1 line" if count == 1 else f"{count} lines"
        first = ", ".join(map(str, self.numbers[:10])) + (", ..." if count > 10 else "")
        faults = ", ".join(f"{found} {fault}" for fault, found in sorted(self.faults.items()))
        return f"{lines} could not be read and {'is' if count == 1 else 'are'} left out: {first} ({faults})"


def read_objects(
    path: Path, passed_over: PassedOver | None = None, valid: Callable[[dict[str, Any]], bool] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, one a line, without their `version` field.

    A line that is torn (no line break ends it), blank, no JSON object, equal to an earlier line that was yielded
    (`duplicated`), or not `valid` (None: all are; `of no known form`) is left out and added to `passed_over` (None: it
    is dropped). A line without a version is read. Iterating raises UsageError for a line of another version of the
    format, and OSError where the file cannot be opened.
    """
    skipped = passed_over if passed_over is not None else PassedOver()
    seen: set[bytes] = set()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            value = object_in(line)
            if isinstance(value, str):
                skipped.add(number, value)
                continue
            require_version(value.pop("version", VERSION), path)
            name = hashlib.blake2b(line, digest_size=8).digest()
            if name in seen:
                skipped.add(number, "duplicated")
            elif valid is not None and not valid(value):
                skipped.add(number, "of no known form")
            else:
                seen.add(name)
                yield value


def object_in(line: bytes) -> dict[str, Any] | str:
    """Return the JSON object in a line of a file, or a text that names the line's fault: `torn` (no line break ends it),
    `blank`, `no JSON` or `no JSON object`."""
    if not line.endswith(b"\n"):
        return "torn"
    if not line.strip():
        return "blank"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "no JSON"
    return value if isinstance(value, dict) else "no JSON object"


def require_version(version: Any, path: Path) -> None:
    """Raise UsageError where `version`, the number of the format in the file `path`, is not VERSION (1), the only one that
    is read."""
    if version != VERSION:
        raise UsageError(
            f"{path} was written by another version of lmprog (format {version!r}, this one reads {VERSION}); "
            "read it with that version, or begin anew with another file or folder"
        )


def as_line(value: Any) -> bytes:
    """Return a value as one line of JSON in UTF-8, with its line break; half a surrogate pair is written as an escape
    (`\\ud800`), numbers that are not finite as NaN or Infinity, and what JSON has no form for as its `str`.
    """
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n"


def versioned_line(value: dict[str, Any]) -> bytes:
    """Return an object as a line of JSON in UTF-8, with the number of the file format under `version`, unless the object
    has that key."""
    return as_line({"version": VERSION, **value})


def cut_torn_line(path: Path) -> None:
    """Remove what stands behind the last line break of a file, as a killed writer leaves it, so that the next line can be
    appended; a file without a line break becomes empty, and one that does not exist is left so."""
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
