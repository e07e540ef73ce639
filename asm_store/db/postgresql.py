from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, cast

from django.db import InterfaceError

from ..models import Event
from .base import COLUMNS, BaseOperations, Failure
from .channels import Channel

# `alive` asks for what the counter's row has given: the session is locked after it, as everywhere,
# and seen as it is by then. The counter is locked before it is moved, since that could not be
# taken back.
LOCKED = """WITH counter AS (
        SELECT session_id, last_sequence + %(events)s AS latest FROM asm_session_sequences
        WHERE session_id = %(session_id)s AND last_sequence <= 9223372036854775807 - %(events)s
        AND last_sequence = coalesce(%(expected)s::bigint, last_sequence)
        FOR UPDATE
    ), alive AS (
        SELECT id FROM asm_sessions
        WHERE id = (SELECT session_id FROM counter) AND deleted_at IS NULL
        {share_lock}
    )"""
# Joined, and not `= ANY()`: that may become a look through the whole table for each id.
STORABLE = """NOT EXISTS (
            SELECT FROM unnest(%(ids)s::varchar[]) given (id) JOIN asm_events USING (id)
        )
        AND cardinality(%(runs)s::varchar[]) = (
            SELECT count(*) FROM asm_runs
            WHERE id = ANY(%(runs)s::varchar[]) AND session_id = %(session_id)s
        )"""
COUNT = """{locked}
    UPDATE asm_session_sequences moved SET last_sequence = latest, updated_at = %(now)s
    FROM counter CROSS JOIN alive
    WHERE moved.session_id = counter.session_id AND {storable}
    RETURNING last_sequence
"""
APPEND = """{locked}, stored AS (
        INSERT INTO asm_events ({names}) SELECT {values} FROM counter CROSS JOIN alive
        WHERE {storable}
        RETURNING session_id, sequence_number
    )
    UPDATE asm_session_sequences moved
    SET last_sequence = sequence_number, updated_at = %(now)s
    FROM stored WHERE moved.session_id = stored.session_id
    RETURNING last_sequence
"""
NAMES = ", ".join(COLUMNS)
VALUES = ", ".join("latest" if name == "sequence_number" else f"%({name})s" for name in COLUMNS)
# A text of `jsonb` has no line breaks.
JSON_TEXTS = {
    "timestamp": (
        """'"' || to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00"'"""
    ),
    **dict.fromkeys(("data", "metadata", "sequence_number", "schema_version"), "{0}::text"),
}
MEMBERS = {
    name: f"""'"{name}":' || """
    + JSON_TEXTS.get(name, "coalesce(to_json({0})::text, 'null')").format(f"asm_events.{name}")
    for name in COLUMNS
}
COPY = f"COPY asm_events ({NAMES}) FROM STDIN"


class PostgreSQLOperations(BaseOperations):
    appends_alone = True
    share_lock = "FOR SHARE"
    _locked: ClassVar = LOCKED.format(share_lock=share_lock)
    count = COUNT.format(locked=_locked, storable=STORABLE)
    append_one: ClassVar = APPEND.format(
        locked=_locked, storable=STORABLE, names=NAMES, values=VALUES
    )
    max_parameters = 10_000
    max_rows = 5_000

    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    busy: ClassVar = frozenset({"40001", "40P01", "55P03"})
    # Shut down, crashed, starting, too many connections; class 08 is the connection's own.
    gone: ClassVar = frozenset({"57P01", "57P02", "57P03", "57P05", "53300"})

    # Not psycopg_pool's PoolTimeout: the pool has waited already, as long as its users allow it.
    # psycopg's own InternalError is an answer out of step: behind PgBouncer a connection that the
    # server ends gives two errors, the server's and the pooler's.
    stateless: ClassVar = (
        "OperationalError", "InterfaceError", "InternalError", "ConnectionTimeout"
    )  # fmt: skip

    passing: ClassVar = ("starting up", "shutting down", "too many", "recovery", "terminating")

    @property
    def is_psycopg_3(self) -> bool:
        return cast(str, self.connection.Database.__name__) == "psycopg"  # type: ignore[attr-defined]

    @property
    def supports_notifications(self) -> bool:  # type: ignore[override]
        """Not with psycopg2, whose users poll."""
        return self.is_psycopg_3

    def open_channel(self, name: str) -> Channel:
        return Channel(self.connection, name)

    def is_behind_pooler(self) -> bool:
        """A pooler makes up the number of the process that it tells its client."""
        if not self.supports_notifications:
            return False
        number = self.scalar("SELECT pg_backend_pid()")
        return bool(number != self.connection.connection.info.backend_pid)

    @contextmanager
    def planned_anew(self) -> Iterator[None]:
        """Without preparing them: a prepared statement may get one plan for all values, which
        looks for what is rare as for what is everywhere.

        https://www.postgresql.org/docs/current/sql-prepare.html
        """
        self.connection.ensure_connection()
        driver = self.connection.connection
        threshold = getattr(driver, "prepare_threshold", None)
        if threshold is None:
            yield
            return
        driver.prepare_threshold = None
        try:
            yield
        finally:
            driver.prepare_threshold = threshold

    def append(self, events: Sequence[Event], expected_sequence: int | None) -> bool:
        if len(events) > 1:
            return super().append(events, expected_sequence)
        given = {**self._asked(events, expected_sequence), **self.row(events[0])}
        return self._numbered(events, self.append_one, given)

    def event_json(self, *, payloads: bool) -> str:
        members = (sql for name, sql in MEMBERS.items() if payloads or not COLUMNS[name])
        return f"""('{{' || {" || ',' || ".join(members)} || '}}')"""

    def insert_events(self, events: Sequence[Event]) -> None:
        """By COPY, which is faster than an INSERT even of a few events."""
        if not self.is_psycopg_3:
            super().insert_events(events)
            return

        def copy(sql: str, *_: Any) -> None:
            is_sent = False
            try:
                with self.connection.wrap_database_errors, cursor.copy(sql) as rows:
                    for event in events:
                        rows.write_row([*self.row(event).values()])
                    is_sent = True
            except ValueError:
                if not is_sent:
                    raise
                # psycopg takes one answer; a connection that ends behind PgBouncer gives two.
                raise InterfaceError("the connection has ended in a COPY.") from None

        # Django's cursor shows a COPY to nobody; who looks on is to see it as any statement.
        run: Callable[..., None] = copy
        for wrapper in reversed(self.connection.execute_wrappers):
            run = partial(wrapper, run)
        with self.connection.cursor() as cursor:
            run(COPY, None, False, {"connection": self.connection, "cursor": cursor})

    def now(self) -> datetime:
        return cast(datetime, self.scalar("SELECT clock_timestamp()"))

    def estimated_rows(self, table: str) -> int:
        """As of the last VACUUM or ANALYZE; 0 before the first."""
        sql = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(%s)"
        return cast(int, self.scalar(sql, [self.connection.ops.quote_name(table)]))

    # https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS

    def try_lock(self, name: str) -> bool:
        return bool(self.scalar("SELECT pg_try_advisory_lock(hashtext(%s))", [name]))

    def unlock(self, name: str) -> None:
        self.scalar("SELECT pg_advisory_unlock(hashtext(%s))", [name])

    def classify(self, error: Exception) -> Failure:
        cause = error.__cause__ or error
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if state == "42P01":
            return Failure.NO_TABLE
        if state in self.busy:
            return Failure.BUSY
        if state in self.gone or (state or "").startswith("08"):
            return Failure.CONNECTION
        # The same two answers at the beginning of a COPY.
        if state is None and "COPY cannot be mixed" in str(cause):
            return Failure.CONNECTION
        # A connection that breaks or is refused has no state; nor has one that the server
        # refuses for good, such as a wrong password.
        if state is None and type(cause).__name__ in self.stateless:
            text = str(cause)
            passing = any(reason in text for reason in self.passing)
            return Failure.OTHER if "FATAL" in text and not passing else Failure.CONNECTION
        return Failure.OTHER
