"""Locks that give one process the exclusive right to write a run folder or file; the kernel releases them with the process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lmprog.errors import InfrastructureError

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing is locked.
    fcntl = None  # type: ignore[assignment]

PAUSE = 0.02
"""Seconds between two tries to get a lock that is waited for."""


class WriterLocked(InfrastructureError):
    """The error for a file or folder that another process, or another part of this one, is writing."""


@contextlib.contextmanager
def exclusive_writer(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the file or folder at `path`, which need not exist, inside the block. Raises WriterLocked where
    another process, or another part of this one, still holds it after `wait` seconds.

    Other names of the same file (links) mean the same lock. The lock is on a hidden file (in the folder, or beside the
    file, whose folder is made) that holds the owner's process id; it is removed at the end, and one that a killed
    process left behind locks nothing. Devices and pipes are not locked, nor anything on Windows or, with a warning, on
    a file system without locks.
    """
    whole = path.resolve()
    if fcntl is None or (whole.exists() and not (whole.is_file() or whole.is_dir())):
        yield
        return
    beside = whole / ".lock" if whole.is_dir() else whole.with_name(f".{whole.name}.lock")
    beside.parent.mkdir(parents=True, exist_ok=True)
    held = _waited_for(beside, path, wait)
    try:
        yield
    finally:
        if held is not None:
            beside.unlink(missing_ok=True)
            os.close(held)


def _waited_for(beside: Path, path: Path, wait: float) -> int | None:
    """Return what `_locked` does, as soon as the lock is free; raise WriterLocked where it is not after `wait` seconds. The
    thread sleeps meanwhile."""
    end = time.monotonic() + wait
    while True:
        try:
            return _locked(beside, path)
        except WriterLocked:
            if time.monotonic() >= end:
                raise
            time.sleep(PAUSE)


def _locked(beside: Path, path: Path) -> int | None:
    """Return the descriptor of the file `beside` with the lock of `path` on it; None, with a warning, on a file system
    without locks. Raises WriterLocked where another holds the lock."""
    while True:
        opened = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(opened, 32, 0).decode(errors="replace").strip()
            os.close(opened)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                _warn(f"{path} cannot be locked here ({error.strerror}); let no other process write it")
                return None
            who = f"process {holder}" if holder else "another process"
            raise WriterLocked(
                f"{path} is being written by {who}; wait until it has ended, or name another path"
            ) from None
        # The last owner may have removed the file between the opening and the lock: then the lock is on nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened), os.stat(beside)):
                os.ftruncate(opened, 0)
                os.pwrite(opened, f"{os.getpid()}\n".encode(), 0)
                return opened
        os.close(opened)


def _warn(message: str) -> None:
    """Print a warning on standard error."""
    print(f"lmprog: {message}", file=sys.stderr, flush=True)
