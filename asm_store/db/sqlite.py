from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.db.models import QuerySet

from ..events.sanitizing import encoded
from ..expressions import Texts
from ..models import Event
from .base import COLUMNS, BaseOperations, Failure, Given, Locker
from .direct import is_direct

# The runs are one parameter, of whose length neither the statement nor a limit depends.
COUNT = """UPDATE asm_session_sequences
    SET last_sequence = last_sequence + %(events)s, updated_at = %(now)s
    WHERE session_id = %(session_id)s AND last_sequence <= 9223372036854775807 - %(events)s
    AND last_sequence = coalesce(%(expected)s, last_sequence)
    AND EXISTS (
        SELECT 1 FROM asm_sessions WHERE id = %(session_id)s AND deleted_at IS NULL
    )
    AND NOT EXISTS (SELECT 1 FROM asm_events WHERE id IN (%(first)s, %(last)s))
    AND json_array_length(%(runs)s) = (
        SELECT count(*) FROM asm_runs
        WHERE id IN (SELECT value FROM json_each(%(runs)s)) AND session_id = %(session_id)s
    )
    RETURNING last_sequence
"""
MARK = re.compile(r"%\((\w+)\)s")
MARKS = ", ".join(f"%({name})s" for name in COLUMNS)
INSERT = f"INSERT INTO asm_events ({', '.join(COLUMNS)}) VALUES ({MARKS})"  # noqa: S608

IN_JSON = "IN (SELECT value FROM json_each(%(ids)s))"
# The ids come first, so that what follows may have parameters of its own.
LOCK = "WITH given (ids) AS (SELECT %s) SELECT locked.*, last_sequence FROM ("
GIVEN = "IN (SELECT value FROM json_each((SELECT ids FROM given)))"
LOCKED = ") locked LEFT JOIN asm_session_sequences ON session_id = locked.id"
PLACES = f"SELECT storage_backend, storage_ref FROM asm_artifacts WHERE session_id {IN_JSON}"  # noqa: S608
# A moment is text here, whose beginning is its hour.
MARK_HOURS = f"""INSERT INTO asm_usage_marks (begin)
    SELECT DISTINCT substr(moment, 1, 13) || ':00:00' FROM (
        SELECT created_at AS moment FROM asm_sessions WHERE id {IN_JSON}
        UNION ALL SELECT started_at FROM asm_runs WHERE session_id {IN_JSON}
    ) WHERE moment < %(closed)s
"""  # noqa: S608
REMOVE = (
    f"UPDATE asm_sessions SET parent_session_id = NULL WHERE parent_session_id {IN_JSON}",  # noqa: S608
    MARK_HOURS,
    *(
        f"DELETE FROM {table} WHERE {column} {IN_JSON}"  # noqa: S608
        for table, column in (
            ("asm_artifacts", "session_id"),
            ("asm_events", "session_id"),
            ("asm_runs", "session_id"),
            ("asm_session_sequences", "session_id"),
            ("asm_session_sums", "session_id"),
            ("asm_sessions", "id"),
        )
    ),
)


class SQLiteOperations(BaseOperations):
    def begin_write(self) -> None:
        """Take the write lock before the first read, which BEGIN (Django's default) does not.

        A transaction that has read cannot wait for the lock: it fails at once with "database is
        locked" if another has written meanwhile. An UPDATE that finds no row takes the lock.
        """
        # Django's own BEGIN has taken it in these modes; without autocommit there was none.
        if self.connection.commit_on_exit and self._mode in ("IMMEDIATE", "EXCLUSIVE"):
            return
        with self.connection.cursor() as cursor:
            cursor.execute("UPDATE asm_session_sequences SET last_sequence = 0 WHERE 0")

    def estimated_rows(self, table: str) -> int:
        """The number of the row that came last: removed ones count."""
        return self.scalar(f"SELECT max(rowid) FROM {self.connection.ops.quote_name(table)}") or 0  # noqa: S608

    @property
    def _mode(self) -> str | None:
        mode: str | None = self.connection.transaction_mode  # type: ignore[attr-defined]
        return mode

    @property
    def removes_together(self) -> bool:  # type: ignore[override]
        """Not where moments are written in another zone, whose hours may be others."""
        return self.connection.timezone is UTC

    def locker(self, sessions: QuerySet[Any, Any]) -> Locker:
        """Nothing is left to lock: `begin_write()` has."""
        return self._compiled_locker(sessions.filter(Given("pk", GIVEN)), LOCK, LOCKED)

    def remove_sessions(self, ids: Texts, closed: datetime) -> list[tuple[str, str]]:
        end = self.connection.ops.adapt_datetimefield_value(closed)
        with self.connection.cursor() as cursor:
            cursor.execute(PLACES, {"ids": ids.json})
            places = cursor.fetchall()
            for sql in REMOVE:
                cursor.execute(sql, {"ids": ids.json, "closed": end})
        return list(places)

    @property
    def count(self) -> str | None:  # type: ignore[override]
        # An UPDATE returns nothing either before SQLite 3.35.
        return COUNT if self.connection.features.can_return_columns_from_insert else None

    @property
    def appends_alone(self) -> bool:
        return self.count is not None

    def append(self, events: Sequence[Event], expected_sequence: int | None) -> bool:
        """In a transaction by hand where there is none: Django's takes as long as what is in it."""
        if self.connection.in_atomic_block:
            return super().append(events, expected_sequence)
        # A transaction by hand would be that of all threads that share the connection.
        if self.connection.allow_thread_sharing or not is_direct(self.connection):
            return False
        driver = self.connection.connection
        if driver.in_transaction:
            return False  # somebody else's: Django says so
        with self.connection.wrap_database_errors:
            try:
                driver.execute("BEGIN IMMEDIATE")
                if is_stored := self._store(driver, events, expected_sequence):
                    driver.commit()
            finally:
                # What could not be committed, too. By the driver: nothing may come in between.
                if driver.in_transaction:
                    driver.rollback()
        return is_stored

    def _store(
        self, driver: sqlite3.Connection, events: Sequence[Event], expected_sequence: int | None
    ) -> bool:
        found = driver.execute(_named(COUNT), self._asked(events, expected_sequence))
        if not self._number(events, found.fetchone()):
            return False
        driver.executemany(_named(INSERT), [self.row(event) for event in events])
        return True

    def listed(self, ids: list[str]) -> str:
        return encoded(ids)

    def insert_events(self, events: Sequence[Event]) -> None:
        if events:  # of none, Django would send the statement with its own marks
            with self.connection.cursor() as cursor:
                cursor.executemany(INSERT, [self.row(event) for event in events])

    def classify(self, error: Exception) -> Failure:
        cause = error.__cause__ or error
        # The low byte is the primary code: https://sqlite.org/rescode.html
        primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Failure.BUSY
        if "no such table" in str(cause):
            return Failure.NO_TABLE
        return Failure.OTHER


@cache
def _named(sql: str) -> str:
    """One of this module's statements with the driver's marks for its parameters."""
    return MARK.sub(r":\1", sql)
