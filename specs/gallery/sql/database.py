"""The database of the shop, in memory and read-only: a query that would change it, or that takes too long, fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MOST_STEPS = 1_000_000
"""Steps of SQLite's machine that a query may take: some hundredths of a second."""
MOST_ROWS = 50


def query(sql: str) -> list[Any]:
    """Returns the first 50 rows of one SELECT on the tables customers, products, orders and lines, as lists of values."""
    with closing(sqlite3.connect(":memory:")) as database:
        for file in ("tables.sql", "rows.sql"):
            database.executescript((FOLDER / file).read_text(encoding="utf-8"))
        database.execute("PRAGMA query_only = ON")
        database.set_authorizer(_reads)
        left = iter(range(MOST_STEPS // 1000))
        database.set_progress_handler(lambda: next(left, None) is None, 1000)
        return [list(row) for row in database.execute(sql).fetchmany(MOST_ROWS)]


def _reads(action: int, *what: str | None) -> int:
    """Allow what a SELECT does; refuse all else, `PRAGMA query_only = OFF` too."""
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY
