"""Writing of files whole or not at all, and of files that only their owner may read.

Every file of lmprog that is written as a whole is written here; `tests/unit/test_whole_files.py` holds it. It stands in the
lowest room since the compiler writes overlays and artefacts. Files that grow line by line are not whole: the journal, traces,
the request log, and `run --out`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

OWNER_FILE, OWNER_FOLDER = 0o600, 0o700


def write_whole(path: Path, content: str | bytes, *, private: bool = False, new: bool = False) -> None:
    """Write a file whole or not at all; folders on the way are made, a link is followed, and a device or pipe written
    directly. A text is written as UTF-8.

    With `private` only its owner may read the file, and enter a folder that is made for it; else an existing file keeps
    its mode. With `new`, FileExistsError is raised where the file exists already. Raises OSError where it cannot be
    written.
    """
    write_all({path: content}, private=private, new=new)


def write_all(contents: Mapping[Path, str | bytes], *, private: bool = False, new: bool = False) -> None:
    """Write several files (contents by path; a text as UTF-8), each whole or not at all. All are first written beside their
    places, so that a full disk changes none; an error while they are moved there leaves those before it replaced. Folders
    on the way are made, links followed, and devices and pipes written directly.

    With `private` only the owner may read them, else existing files keep their modes; with `new` a file that exists
    raises FileExistsError. Raises OSError where one cannot be written.
    """
    beside: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            target = _target(path, private)
            if new and target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            if target.exists() and not target.is_file():  # a device or pipe holds nothing to keep
                path.write_bytes(_bytes(content))
                continue
            beside[target] = _scratch(target)
            with _opened(beside[target], target, private) as file:
                file.write(_bytes(content))
        for target, scratch in beside.items():
            os.replace(scratch, target)
    finally:
        for scratch in beside.values():
            scratch.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Yield a new, empty binary file that takes the place of `path` when the block ends; where the block raises, `path`
    stays as it was. Folders on the way are made, and a link is followed. With `private` only the owner may read it, else an
    existing file keeps its mode. Raises OSError where it cannot be written."""
    target = _target(path, private)
    scratch = _scratch(target)
    try:
        with _opened(scratch, target, private) as file:
            yield file
        take_place(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def open_part(part: Path, *, private: bool = False) -> IO[bytes]:
    """Open the file `part` for writing, emptied, in a folder that exists; it keeps this name until `take_place`, also if
    the process is killed. With `private` only the owner may read it, whatever its mode was. Raises OSError where it cannot
    be opened."""
    return open_private(part, "wb") if private else part.open("wb")


def take_place(part: Path, path: Path) -> None:
    """Move the finished file `part` to `path`, or to the file that a link there leads to, replacing what is there; write
    its content to a device or pipe that is there, and remove it. Raises OSError, as for a link to another file system."""
    if path.exists() and not path.is_file():  # a device or pipe stays what it is
        path.write_bytes(part.read_bytes())
        part.unlink()
    else:
        os.replace(part, path.resolve())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield the path of a folder that the block is to make; when the block ends it is moved to `folder`, and where the
    block raises it is removed. Folders above are made.

    The block may put temporary files beside that path, which are removed. A `folder` with files in it, which was there
    before or which another process has made meanwhile, stays, and the new one is removed. Raises OSError where the block
    made no folder and there is none, or a file stands there.
    """
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        yield made
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _target(path: Path, private: bool) -> Path:
    """Return the file that a path leads to through links; the folder of the path is made where it is absent."""
    make_private(path.parent) if private else path.parent.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def _scratch(target: Path) -> Path:
    """Return the path of the file that is written beside a target, another one in each process and thread."""
    return target.with_name(f".{target.name}.{os.getpid()}.{threading.get_native_id()}.new")


def _opened(scratch: Path, target: Path, private: bool) -> IO[bytes]:
    """Open the file `scratch`, which will replace `target`, with the mode of `target` or for its owner alone."""
    file = open_private(scratch, "wb") if private else scratch.open("wb")
    if not private and target.is_file():
        scratch.chmod(target.stat().st_mode & 0o7777)
    return file


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file, as `open` with this mode and options, that only its owner may read, whatever its mode was before; a
    device or pipe keeps its own."""
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, OWNER_FILE), **options)  # noqa: SIM115
    if path.is_file():  # no device or pipe
        os.chmod(path, OWNER_FILE)
    return file


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, with the folders above it as usual; an existing one stays as it is.
    Raises OSError where it cannot be made."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(OWNER_FOLDER, exist_ok=True)


def close_to_others(folder: Path) -> None:
    """Change the modes of an existing folder, and of all folders and files in it that other libraries wrote, so that the
    owner alone may read and write them; links are left out. Raises OSError where a mode cannot be changed."""
    folder.chmod(OWNER_FOLDER)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(OWNER_FOLDER if path.is_dir() else OWNER_FILE)
