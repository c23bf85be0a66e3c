"""Access to the files that a program names: which may be read, and their text."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from lmprog.compiler.errors import Handled

MAX_BYTES = 64_000_000
"""Maximum bytes of a file that is read whole: a program, a list of labels, a description of tools."""

State = tuple[int, int, int] | None
"""The time of the last change (in nanoseconds), size and inode of a file or folder; None where there is none."""

_UNSAVED: ContextVar[Mapping[Path, str]] = ContextVar("unsaved", default={})  # noqa: B039 (nobody changes it)
_SEEN: ContextVar[dict[Path, State] | None] = ContextVar("seen", default=None)


class NotRead(Handled):
    """The error for a file that is not read; the message says why, and quotes none of the file's contents."""


def followed(path: Path) -> Path:
    """Return the absolute path with its links followed, whether the file exists or not; a path whose links lead in a
    circle is returned, too, and cannot be read. (`Path.resolve` raises RuntimeError for it before Python 3.13.)

    What no name of a file can hold, as a NUL or half a surrogate pair, is replaced, so that such a path is one of no file.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        return Path(os.path.realpath(str(path).replace("\0", "\ufffd").encode(errors="replace").decode()))


def root_of(spec: Path) -> Path:
    """Return the folder that holds all files which the program at `spec` may read if it is not trusted: the innermost git
    checkout around it, else its own folder.
    """
    folder = followed(Path(os.path.abspath(spec)).parent)
    return next((around for around in (folder, *folder.parents) if (around / ".git").exists()), folder)


def refusal(path: Path, root: Path | None) -> str | None:
    """Return why a program that may read only `root` may not read a file or folder: it lies outside of `root`, or in a
    `.git` folder inside.

    Return None where it may, or where `root` is None. Links in `path` are followed first, and `root` must be a path
    without links. The answer does not depend on whether the file exists.
    """
    if root is None:
        return None
    found = followed(path)
    if not found.is_relative_to(root):
        return f"it lies outside of {root.name or root}/, and with --no-import nothing there is read"
    if ".git" in found.relative_to(root).parts:
        return "it lies in .git/, and with --no-import nothing there is read"
    return None


@contextmanager
def reading(unsaved: Mapping[Path, str] = {}) -> Iterator[Mapping[Path, State]]:
    """Inside the block, take the texts of `unsaved`, which an editor holds, in place of the files at their paths (without
    links).

    Yield a dictionary that is filled during the block with the files that are looked at, whether they exist or not, each
    with its state when it was first looked at. Of blocks within each other only the innermost one counts.
    """
    seen: dict[Path, State] = {}
    texts, looked_at = _UNSAVED.set(unsaved), _SEEN.set(seen)
    try:
        yield seen
    finally:
        _UNSAVED.reset(texts)
        _SEEN.reset(looked_at)


def note(path: Path) -> None:
    """Add a file to those that the block of `reading` around yields, as one that the compilation depends on; without such
    a block, do nothing."""
    seen = _SEEN.get()
    if seen is not None and path not in seen:
        seen[path] = state_of(path)


def state_of(path: Path) -> State:
    """Return the time of change (in nanoseconds), size and inode of a file or folder on the disk, of which one changes when
    a file is saved; None where there is none, or it may not be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def unsaved_text(path: Path) -> str | None:
    """Return the text that an editor holds of the file at this very path (links are not followed), with the line ends of
    files that are read; None where it holds none. The file is not noted."""
    text = _UNSAVED.get().get(path)
    return None if text is None else _with_plain_line_ends(text)


def is_file(path: Path) -> bool:
    """Return whether there is such a file, on the disk or as unsaved text in an editor; note it as one that is depended
    on."""
    note(path)
    return path in _UNSAVED.get() or os.path.isfile(path)  # `Path.is_file` raises for a name that is too long


def read_text(path: Path, root: Path | None = None, *, encoding: str = "utf-8") -> str:
    """Return the text of a file, or its unsaved text in an editor, with `\\n` for all line ends; note it as one that is
    depended on. A byte order mark stays, unless `encoding` is `utf-8-sig`. Raises NotRead for a file that cannot be opened,
    is no regular one, lies outside of the folder `root` (None: no limit), has more than MAX_BYTES (64,000,000), or is not
    text in `encoding`."""
    refused = refusal(path, root)
    if refused is not None:
        raise NotRead(refused)
    note(path)
    unsaved = unsaved_text(path)
    if unsaved is not None:
        return unsaved
    try:
        # A pipe would wait for somebody who writes, and a device would never end.
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            raise NotRead("it is no regular file")
        if kind.st_size > MAX_BYTES:
            raise NotRead(f"it has more than {MAX_BYTES:,} bytes")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotRead(error.strerror or type(error).__name__) from None
    except ValueError:  # as of a name with a NUL
        raise NotRead("no file can have this name") from None
    if len(content) > MAX_BYTES:
        raise NotRead(f"it has more than {MAX_BYTES:,} bytes")
    try:
        return _with_plain_line_ends(content.decode(encoding))
    except UnicodeDecodeError:
        raise NotRead("it is not UTF-8 text") from None


def opened(path: Path, **options: Any) -> IO[str]:
    """Open a file of UTF-8 text for reading, without a byte order mark, as `open` with these options; where an editor
    holds a newer text, return that as a stream. The file is noted as one that is depended on, and may have any size.
    Raises OSError where it cannot be opened; reading raises UnicodeDecodeError where it is not UTF-8.
    """
    note(path)
    unsaved = _UNSAVED.get().get(path)
    if unsaved is not None:
        return io.StringIO(unsaved, newline=options.get("newline"))
    file: IO[str] = path.open(encoding="utf-8-sig", **options)
    return file


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
