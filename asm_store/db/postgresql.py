from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, cast

from django.db import InterfaceError, ProgrammingError
from django.db.models import QuerySet
from django.utils import timezone

from ..expressions import Texts
from ..models import Event, Run, Session
from .base import BaseOperations, Failure, Given, Locker, texts
from .channels import Channel
from .direct import is_direct
from .statements import (
    APPEND,
    COPY,
    COUNT,
    COUNTED,
    LINES,
    LOCK,
    LOCKED,
    MOST,
    OF_RUN,
    OF_SESSION,
    REMOVE,
    SAVE,
)

logger = logging.getLogger("asm_store")

# Where a connection of the driver's keeps a cursor. It holds what it has sent: larger events have
# another.
KEPT_CURSOR = "_asm_store_cursor"
MAX_KEPT_BYTES = 64 * 1024
# Seconds after which a function that was missing is called again.
TRY_AGAIN = 600.0


class NoFunction(Exception):
    """A function of the package's is not in the database; from now on it is done without."""


class PostgreSQLOperations(BaseOperations):
    saves_together = True
    removes_together = True
    # Not known before it runs, such a limit is planned for as a tenth of the rows. Without one, a
    # reader that takes the last few events of a long session, whose number PostgreSQL cannot guess,
    # may have it look through the whole table.
    unlimited = f" LIMIT (SELECT {MOST})"
    share_lock = "FOR SHARE"
    count = COUNT
    max_parameters = 10_000
    max_rows = 5_000

    # The aliases whose databases have no function for an append, as where tests make the tables
    # without migrations, and when that was found.
    without_function: ClassVar[dict[str, float]] = {}

    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    busy: ClassVar = frozenset({"40001", "40P01", "55P03"})
    # Shut down, crashed, starting, too many connections; ended after a pause in a transaction
    # (25P03) or a long one (25P04). Class 08 is the connection's own. And what only a new
    # connection mends: a server that takes no writes any more since another does (25006), and
    # prepared statements of which server and driver think differently (26000, 42P05).
    gone: ClassVar = frozenset(
        {"57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25P04", "25006", "26000", "42P05"}
    )

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

    @property
    def appends_alone(self) -> bool:
        found = self.without_function.get(self.connection.alias)
        return found is None or time.monotonic() - found > TRY_AGAIN

    def append(self, events: Sequence[Event], expected_sequence: int | None) -> bool:
        """`NoFunction`: the transaction is to be taken back, and done again."""
        if len(events) > 1 or not self.appends_alone:
            if not self.connection.in_atomic_block:
                raise NoFunction  # another thread has found it out since this one was asked
            return super().append(events, expected_sequence)
        [event] = events
        given = self.row(event)
        given["expected"], given["now"] = expected_sequence, timezone.now()
        is_kept = event.json_bytes <= MAX_KEPT_BYTES and is_direct(self.connection)
        try:
            row = (self._kept_row if is_kept else self._row)(APPEND, given)
        except ProgrammingError as error:
            if not _is_of_the_call(error):
                raise
            self._do_without_function()
            raise NoFunction from error
        return self._number(events, None if row == (None,) else row)

    def _do_without_function(self) -> None:
        alias = self.connection.alias
        self.without_function[alias] = time.monotonic()
        logger.warning(
            "%r has no function asm_append_event that may be called, so appends take several "
            "statements: apply migration 0008 of asm_store, or once more when it was applied.",
            alias,
            extra={"using": alias},
        )

    def _kept_row(self, sql: str, given: dict[str, Any]) -> tuple[Any, ...] | None:
        """By a cursor that is kept: a new one finds out anew how each type is sent, which takes
        longer than to send the statement.
        """
        driver = self.connection.connection
        held = getattr(driver, "__dict__", None)  # psycopg2's have none
        # It knows how text is sent in this encoding.
        if held is None or driver.pgconn.parameter_status(b"client_encoding") != b"UTF8":
            return self._row(sql, given)
        # Taken out: whoever comes in between, a signal's handler or another thread, has his own.
        cursor = held.pop(KEPT_CURSOR, None) or driver.cursor()
        with self.connection.wrap_database_errors:
            cursor.execute(sql, given)
            row: tuple[Any, ...] | None = cursor.fetchone()
        held[KEPT_CURSOR] = cursor
        return row

    def save_all(
        self, session: Session, run: Run, events: Sequence[Event], *, keep_cost: bool
    ) -> bool | None:
        given = self._asked(events, None)
        for kind, record, columns in ("session", session, OF_SESSION), ("run", run, OF_RUN):
            for name, value in texts(record, columns).items():
                given[f"{kind}_{name}"] = value
        row = self._row(SAVE, {**given, "keep_cost": keep_cost})
        if row is None:
            return None
        self._number(events, row)
        _latest, is_new, run.cost_usd = row
        self.insert_events(events)
        return bool(is_new)

    def locker(self, sessions: QuerySet[Any, Any]) -> Locker:
        rows = sessions.filter(Given("pk", COUNTED)).order_by("pk")
        return self._compiled_locker(rows, LOCK, LOCKED)

    def remove_sessions(self, ids: Texts, closed: datetime) -> list[tuple[str, str]]:
        with self.connection.cursor() as cursor:
            cursor.execute(REMOVE, [ids.json, closed])
            return list(cursor.fetchall())

    def event_json(self, *, payloads: bool) -> str:
        return LINES[payloads]

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
                        rows.write_row(self.values(event))
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
        cause, state = error.__cause__ or error, _state(error)
        if state == "42P01":
            return Failure.NO_TABLE
        if state in self.busy:
            return Failure.BUSY
        if state in self.gone or (state or "").startswith("08") or _is_outdated(cause):
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


def _state(error: Exception) -> str | None:
    cause = error.__cause__ or error
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _is_of_the_call(error: Exception) -> bool:
    """Whether a function cannot be called: it is missing (42883), or may not be (42501).

    What a function has met, or a trigger, has a context.
    """
    diagnosis = getattr(error.__cause__ or error, "diag", None)
    context = getattr(diagnosis, "context", None)
    return _state(error) in ("42883", "42501") and context is None


def _is_outdated(error: Any) -> bool:
    """Whether it is of a statement that was prepared before a column's type was changed.

    It would fail for ever on that connection. https://www.postgresql.org/docs/current/sql-prepare.html
    """
    # Its code is that of any feature that is missing, its text in the server's language.
    told_by = getattr(getattr(error, "diag", None), "source_function", None)
    return told_by == "RevalidateCachedQuery"
