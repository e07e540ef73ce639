from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, cast

from django.utils import timezone

from ..events.sanitizing import ENCODER
from ..fields import MAX_BIGINT, PayloadField
from ..models import Event
from .base import BaseOperations, Failure
from .channels import Channel

# An event's columns but its number, and whether each is JSON.
COLUMNS = {
    field.attname: isinstance(field, PayloadField)
    for field in Event._meta.concrete_fields
    if field.attname != "sequence_number"
}
# `alive` asks for what the counter's row has given: the session is locked after it, as everywhere,
# and seen as it is by then. Locked before it is moved, since a move could not be taken back.
APPEND = """WITH counter AS (
        SELECT session_id, last_sequence + 1 AS number FROM asm_session_sequences
        WHERE session_id = %(session_id)s::varchar AND last_sequence < {most}
        AND last_sequence = coalesce(%(expected)s::bigint, last_sequence)
        FOR UPDATE
    ), alive AS (
        SELECT id FROM asm_sessions
        WHERE id = (SELECT session_id FROM counter) AND deleted_at IS NULL
        {share_lock}
    ), stored AS (
        INSERT INTO asm_events ({columns}, sequence_number)
        SELECT {values}, counter.number FROM counter CROSS JOIN alive
        WHERE NOT EXISTS (SELECT FROM asm_events WHERE id = %(id)s::varchar)
        AND (%(run_id)s::varchar IS NULL OR EXISTS (
            SELECT FROM asm_runs
            WHERE id = %(run_id)s::varchar AND session_id = %(session_id)s::varchar
        ))
        RETURNING sequence_number
    )
    UPDATE asm_session_sequences
    SET last_sequence = stored.sequence_number, updated_at = %(now)s
    FROM stored WHERE session_id = %(session_id)s::varchar
    RETURNING last_sequence
"""


class PostgreSQLOperations(BaseOperations):
    appends_alone = True
    share_lock = "FOR SHARE"
    append: ClassVar = APPEND.format(
        most=MAX_BIGINT,
        share_lock=share_lock,
        columns=", ".join(COLUMNS),
        values=", ".join(map("%({})s".format, COLUMNS)),
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
    def supports_notifications(self) -> bool:  # type: ignore[override]
        """Not with psycopg2, whose users poll."""
        return cast(str, self.connection.Database.__name__) == "psycopg"  # type: ignore[attr-defined]

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

    def append_one(self, event: Event, expected_sequence: int | None) -> int | None:
        given = event.__dict__
        parameters: dict[str, Any] = {
            name: ENCODER.encode(given[name]) if is_json else given[name]
            for name, is_json in COLUMNS.items()
        }
        parameters |= {"expected": expected_sequence, "now": timezone.now()}
        with self.connection.cursor() as cursor:
            cursor.execute(self.append, parameters)
            row = cursor.fetchone()
        return row and int(row[0])

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
        # A connection that breaks or is refused has no state; nor has one that the server
        # refuses for good, such as a wrong password.
        if state is None and type(cause).__name__ in self.stateless:
            text = str(cause)
            passing = any(reason in text for reason in self.passing)
            return Failure.OTHER if "FATAL" in text and not passing else Failure.CONNECTION
        return Failure.OTHER
