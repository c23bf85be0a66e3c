"""The one way to the files that a program names: which of them may be read, and their text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lmprog.compiler.errors import Handled

MAX_BYTES = 64_000_000
"""Maximum bytes of a file that is read whole: a program, a list of labels, a description of tools."""


class NotRead(Handled):
    """A file that is not read; the message is why, without a word of what stands in it."""


def root_of(spec: Path) -> Path:
    """Return the folder that holds all files which a stranger's program may read: the git checkout, else its own folder."""
    folder = Path(os.path.abspath(spec)).parent.resolve()
    return next((around for around in (folder, *folder.parents) if (around / ".git").exists()), folder)


def refusal(path: Path, root: Path | None) -> str | None:
    """Return why a stranger's program may not read a file or folder; None where it may, or where it is no stranger's.

    It is the same whether there is such a file or not. Links are followed first.
    """
    if root is None:
        return None
    found = path.resolve()
    if not found.is_relative_to(root):
        return f"it lies outside of {root.name or root}/, and with --no-import nothing there is read"
    if ".git" in found.relative_to(root).parts:
        return "it lies in .git/, and with --no-import nothing there is read"
    return None


def read_text(path: Path, root: Path | None = None, *, encoding: str = "utf-8") -> str:
    """Return the text of a regular file. Raises NotRead for all that is none, lies outside, is too large or no UTF-8."""
    refused = refusal(path, root)
    if refused is not None:
        raise NotRead(refused)
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
    if len(content) > MAX_BYTES:
        raise NotRead(f"it has more than {MAX_BYTES:,} bytes")
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise NotRead("it is not UTF-8 text") from None
