"""The file of cached LM replies: an SQLite database that processes share. A broken or locked file never makes a run fail."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "answers.sqlite"
LOCK_TIMEOUT = 10.0
"""Seconds to wait for another process that writes."""
_LOST = ("malformed", "not a database", "corrupt", "no such table", "no such column")
"""Phrases of SQLite's errors for a file that is no longer a cache."""

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"

_open: dict[tuple[int, Path], AnswerCache] = {}
_opening = threading.Lock()


def answer_cache(folder: Path, shared: bool) -> AnswerCache:
    """Return the cache file in `folder`, which is made where it is missing, opened once in a process; with `shared`, as
    the first caller gives it, the user's group can read and write it. A broken file is set aside and begun anew; one
    that cannot be opened otherwise gives a cache that holds nothing. Both print a warning.
    """
    with _opening:
        # A connection must not outlive a fork, so each process has its own.
        key = (os.getpid(), folder.absolute())
        if key not in _open:
            _open[key] = AnswerCache(folder, shared)
        return _open[key]


class AnswerCache:
    """JSON objects by key in an SQLite file that threads and processes share, of mode 0600, or with `shared` readable
    and writable by the user's group. Nothing is ever removed.

    An entry that cannot be read counts as absent, and one that cannot be written is dropped, after one warning.
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        self.path = folder / FILE
        self._shared = shared
        self._lock = threading.Lock()
        self._warned = False
        self._database: sqlite3.Connection | None = None
        with self._lock, self._lenient():
            self._database = self._connected()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the value stored under `key`; None where there is none, or none that is a JSON object."""
        with self._lock, self._lenient():
            if self._database is not None:
                row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    found = json.loads(row[0]) if row is not None else None
                    return found if isinstance(found, dict) else None
        return None

    def put(self, key: str, value: Mapping[str, Any], instead: bool = False) -> None:
        """Store a value, which JSON can hold, under `key`. A value that is there already is kept, unless `instead` is
        True.
        """
        # Escapes keep half a surrogate pair, which SQLite's UTF-8 could not.
        written = json.dumps(value, default=list)
        with self._lock, self._lenient():
            if self._database is not None:
                how = "REPLACE" if instead else "IGNORE"
                self._database.execute(f"INSERT OR {how} INTO answers VALUES (?, ?)", (key, written))

    def close(self) -> None:
        """Close the file, for all who share this object; `get` then returns None, and `put` does nothing."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _connected(self) -> sqlite3.Connection:
        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o2770 if self._shared else 0o700)
        if not self.path.exists():
            # SQLite gives the files beside it (-wal, -shm) the same mode.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                self.path.chmod(0o660 if self._shared else 0o600)
        database = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _begin(database)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _lenient(self) -> Any:
        """Return a context in which a broken file is set aside and a new one begun, and any other failure of the file is
        passed over with a warning, once.
        """
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            if isinstance(error, sqlite3.Error) and not any(word in str(error) for word in _LOST):
                self._warn(f"the cache {self.path} cannot be used now ({error}); what it holds is asked again")
                return
            if isinstance(error, OSError):
                self._warn(f"the cache {self.path} cannot be used ({error.strerror}); name another folder")
                return
            self._begin_anew()

    def _begin_anew(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        aside = self.path.with_name(f"{FILE}.broken-{os.getpid()}")
        self._warn(f"the cache {self.path} is broken; it is set aside as {aside.name}, and begun anew")
        try:
            for end in ("-wal", "-shm"):
                self.path.with_name(FILE + end).unlink(missing_ok=True)
            self.path.replace(aside)
            self._database = self._connected()
        except (sqlite3.Error, OSError) as error:
            self._warn(f"the cache {self.path} cannot be begun anew ({error}); it is left out")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            print(f"lmprog: {message}", file=sys.stderr, flush=True)


def _begin(database: sqlite3.Connection) -> None:
    """Set the journal of a file and make its table, where another process has not.

    SQLite waits for another process that writes, but not for one that is changing the journal: that is tried again.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
