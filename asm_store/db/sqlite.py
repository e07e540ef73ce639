from __future__ import annotations

import sqlite3

from .base import BaseOperations, Failure


class SQLiteOperations(BaseOperations):
    def begin_write(self) -> None:
        """Take the write lock before the first read, which BEGIN (Django's default) does not.

        A transaction that has read cannot wait for the lock: it fails at once with "database is
        locked" if another has written meanwhile. An UPDATE that finds no row takes the lock.
        """
        with self.connection.cursor() as cursor:
            cursor.execute("UPDATE asm_session_sequences SET last_sequence = 0 WHERE 0")

    def estimated_rows(self, table: str) -> int:
        """The number of the row that came last: removed ones count."""
        return self.scalar(f"SELECT max(rowid) FROM {self.connection.ops.quote_name(table)}") or 0  # noqa: S608

    def classify(self, error: Exception) -> Failure:
        cause = error.__cause__ or error
        # The low byte is the primary code: https://sqlite.org/rescode.html
        primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Failure.BUSY
        if "no such table" in str(cause):
            return Failure.NO_TABLE
        return Failure.OTHER
