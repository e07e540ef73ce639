from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, ClassVar

from django.db import InterfaceError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from ..expressions import OneOf, Sql, Texts
from ..fields import PayloadField
from ..models import Event, Record, Run, Session, SessionSequence
from .channels import Channel


def stored_columns(kind: type[Record]) -> dict[str, bool]:
    """The columns that are written, and whether each is JSON."""
    fields = kind._meta.concrete_fields
    return {
        field.attname: isinstance(field, PayloadField) for field in fields if not field.generated
    }


# An event's.
COLUMNS = stored_columns(Event)
COLUMN_VALUES = itemgetter(*COLUMNS)
TIMESTAMP = list(COLUMNS).index("timestamp")
JSON_COLUMNS = [(index, name) for index, name in enumerate(COLUMNS) if COLUMNS[name]]


def texts(record: Record, columns: Mapping[str, bool]) -> dict[str, Any]:
    """The columns of a prepared record, with text for JSON."""
    values = record.__dict__
    return {
        name: record.json_text(name) if is_json and values[name] is not None else values[name]
        for name, is_json in columns.items()
    }


# Locks those of given sessions that are in a query, by id their rows there with the latest number.
Locker = Callable[[Texts], dict[str, tuple[Any, ...]]]


class Given(OneOf):
    """Whether a column has one of the ids that the statement around it begins with."""

    def __init__(self, column: str, ids: str) -> None:
        super().__init__(column, [])
        self.ids = ids

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        column, parameters = compiler.compile(self.lhs)
        return f"{column} {self.ids}", parameters

    as_postgresql = as_sqlite = as_sql


class Failure(enum.Enum):
    """What a driver's error means for the transaction that met it."""

    BUSY = "busy"  # a deadlock, a lost lock wait, a serialization failure: try again
    CONNECTION = "connection"  # the server is gone or going: connect and try again
    NO_TABLE = "no_table"
    OTHER = "other"


class BaseOperations:
    """The portable statements; a vendor's subclass overrides what it must or can do better."""

    # How the rows of a SELECT are locked so that others may read and lock them alike, but not
    # change them. Empty: the database has no such lock, and rows are locked for update.
    share_lock: ClassVar[str] = ""
    # Does a locking read of a row that is missing lock the place where it would be?
    locks_gaps: ClassVar[bool] = False
    # A statement that moves a session's counter by `events`, if they may be stored, and gives
    # what it is then, or no row.
    count: str | None = None
    # Is there a `save_all()`?
    saves_together: ClassVar[bool] = False
    # Is there a `remove_sessions()`?
    removes_together: ClassVar[bool] = False
    # Can it wake those who wait for what others commit? `open_channel()` then gives a connection.
    supports_notifications: bool = False
    # What ends a statement that reads in the order of an index, and may read all of it.
    unlimited: ClassVar[str] = ""
    # One statement holds at most so many parameters, rows, and bytes of JSON.
    max_parameters: ClassVar[int] = 500
    max_rows: ClassVar[int] = 500
    max_statement_bytes: ClassVar[int] = 16 * 1024 * 1024

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    @property
    def appends_alone(self) -> bool:
        """Whether `append()` of one event needs no transaction around it."""
        return False

    def open_channel(self, name: str) -> Channel:
        """A connection of its own for notifications, which the server shows by this name."""
        raise NotImplementedError

    def is_behind_pooler(self) -> bool:
        """Whether what this connection listens to may be another's to hear."""
        return False

    def begin_write(self) -> None:
        """Called first in a transaction that writes; a database without row locks locks here."""

    @contextmanager
    def planned_anew(self) -> Iterator[None]:
        """Statements within are planned for the values that they have, not for any."""
        yield

    def make_counter(self, counter: SessionSequence) -> None:
        """Store a session's counter unless there is one; which is then not locked for sure."""
        counters = SessionSequence.objects.using(self.connection.alias)
        counters.bulk_create([counter], ignore_conflicts=True)

    def latest_sequence(self, session_id: str) -> int:
        """A session's counter; 0 without one."""
        # By hand: the ORM takes longer to ask than a database to answer.
        sql = "SELECT last_sequence FROM asm_session_sequences WHERE session_id = %s"
        row = self._row(sql, [session_id])
        return row[0] if row else 0

    def append(self, events: Sequence[Event], expected_sequence: int | None) -> bool:
        """Number and store prepared events of one session, whose ids differ, without a look first.

        False where the database has no statement for it, and when they may not be stored, or the
        first or the last of them is: nothing has changed then, and the caller finds out.
        `IntegrityError`: one of the ids is stored, for long or by others meanwhile.
        """
        if self.count is None:
            return False
        asked = self._asked(events, expected_sequence)
        if not self._number(events, self._row(self.count, asked)):
            return False
        self.insert_events(events)
        return True

    def save_all(
        self, session: Session, run: Run, events: Sequence[Event], *, keep_cost: bool
    ) -> bool | None:
        """Store a session without parent, its run, and events as `append()` takes them, prepared
        ones, in a transaction. The run has the stored cost then.

        Whether the session is new. None when it is not that simple: the caller takes back what was
        done, and stores one after the other.
        """
        raise NotImplementedError

    def lock_counters(self, ids: Texts) -> dict[str, int]:
        """Lock the sessions' counters, as every write does first; the latest number of each."""
        counters = SessionSequence.objects.using(self.connection.alias)
        locked = counters.filter(OneOf("session_id", ids)).order_by("session_id")
        return dict(locked.select_for_update().values_list("session_id", "last_sequence"))

    def locker(self, sessions: QuerySet[Any, Any]) -> Locker:
        """For lists of values that begin with the id: locks as every write does, counters first."""

        def lock(ids: Texts) -> dict[str, tuple[Any, ...]]:
            numbers = self.lock_counters(ids)
            rows = sessions.filter(OneOf("pk", ids)).order_by("pk").select_for_update()
            return {row[0]: (*row, numbers.get(row[0])) for row in rows}

        return lock

    def _compiled_locker(self, rows: QuerySet[Any, Any], begin: str, end: str) -> Locker:
        """By one statement that begins with the ids, which are JSON, and has the query in it."""
        # Once, and when it is needed: of no sessions at all there is no statement.
        compiled = cache(rows.query.get_compiler(self.connection.alias).as_sql)

        def lock(ids: Texts) -> dict[str, tuple[Any, ...]]:
            sql, parameters = compiled()
            with self.connection.cursor() as cursor:
                cursor.execute(f"{begin}{sql}{end}", [ids.json, *parameters])
                return {row[0]: row for row in cursor.cursor.fetchall()}

        return lock

    def remove_sessions(self, ids: Texts, closed: datetime) -> list[tuple[str, str]]:
        """Delete locked sessions with all that is theirs, in a transaction: where the contents of
        their artifacts are, which is the storage and the name there.

        Their children have no parent then, and the hours before `closed` in which one of them or
        a run of theirs began are marked.
        """
        raise NotImplementedError

    def _asked(self, events: Sequence[Event], expected_sequence: int | None) -> dict[str, Any]:
        """What `count` is given."""
        runs = {event.run_id for event in events if event.run_id is not None}
        return {
            "session_id": events[0].session_id,
            "events": len(events),
            # Who appends once more what is stored, is seen by these: whoever else gives an id that
            # is, by the unique index.
            "first": events[0].id,
            "last": events[-1].id,
            "runs": self.listed(list(runs)),
            "expected": expected_sequence,
            "now": self.connection.ops.adapt_datetimefield_value(timezone.now()),
        }

    @staticmethod
    def _number(events: Sequence[Event], row: tuple[Any, ...] | None) -> bool:
        """Give the events their numbers; `row` begins with the last one. None, and so False: the
        statement has found that they may not be stored.
        """
        if row is None:
            return False
        for number, event in enumerate(events, row[0] - len(events) + 1):
            event.sequence_number = number
        return True

    def _row(self, sql: str, given: dict[str, Any] | list[Any]) -> tuple[Any, ...] | None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            # The driver's: Django's makes a function anew to fetch what is here already.
            row: tuple[Any, ...] | None = cursor.cursor.fetchone()
        return row

    def listed(self, ids: list[str]) -> Any:
        """Ids as one parameter, such as this database takes."""
        return ids

    def row(self, event: Event) -> dict[str, Any]:
        """A prepared event's columns as this driver takes them; JSON as text."""
        return dict(zip(COLUMNS, self.values(event), strict=True))

    def values(self, event: Event) -> list[Any]:
        """The same without their names."""
        values = list(COLUMN_VALUES(event.__dict__))
        for index, name in JSON_COLUMNS:
            values[index] = event.json_text(name)
        moment = values[TIMESTAMP]
        values[TIMESTAMP] = self.connection.ops.adapt_datetimefield_value(moment)
        return values

    def insert_events(self, events: Sequence[Event]) -> None:
        """Store prepared events, in chunks that one INSERT can carry."""
        chunk: list[Event] = []
        size = 0
        for event in events:
            full = len(chunk) == self.max_rows
            if chunk and (full or size + event.json_bytes > self.max_statement_bytes):
                self._insert_chunk(chunk)
                chunk, size = [], 0
            chunk.append(event)
            size += event.json_bytes
        self._insert_chunk(chunk)

    def _insert_chunk(self, chunk: list[Event]) -> None:
        if chunk:
            Event.objects.using(self.connection.alias).bulk_create(chunk)

    def insert_selected(
        self, model: type[Model], rows: QuerySet[Any, dict[str, Any]], **same: Any
    ) -> None:
        """Store what a query gives as rows of a model, with the columns that are the `same`."""
        quote = self.connection.ops.quote_name
        fields = {field.name: field for field in model._meta.concrete_fields}
        columns = {name: quote(str(field.column)) for name, field in fields.items()}
        wanted = ", ".join("%s" if name in same else columns[name] for name in fields)
        given = [
            field.get_db_prep_save(same[name], self.connection)
            for name, field in fields.items()
            if name in same
        ]
        selected, parameters = rows.query.get_compiler(self.connection.alias).as_sql()
        target = f"{model._meta.db_table} ({', '.join(columns.values())})"
        with self.connection.cursor() as cursor:
            sql = f"INSERT INTO {target} SELECT {wanted} FROM ({selected}) found"  # noqa: S608
            cursor.execute(sql, [*given, *parameters])

    def event_json(self, *, payloads: bool) -> str | None:
        """SQL for an event's row as the text of its `to_dict()`, perhaps without data and metadata;
        None where the database has no such text of a time.
        """
        return None

    def lock_shared(self, rows: QuerySet[Any], *columns: str) -> list[tuple[Any, ...]]:
        """The `columns` of `rows`, which stay as they are until the transaction ends.

        Rows are locked in the query's order. A reader that had to wait sees the newest version,
        which neither EXISTS nor a key-share lock would give it in READ COMMITTED.
        """
        query = rows.values_list(*columns)
        if not self.share_lock:
            return list(query.select_for_update())
        sql, parameters = query.query.get_compiler(self.connection.alias).as_sql()
        with self.connection.cursor() as cursor:
            cursor.execute(f"{sql} {self.share_lock}", parameters)
            return list(cursor.fetchall())

    def show_locks(self, session_ids: Iterable[str]) -> None:
        """Let other nodes of a cluster see that these counters are locked, where locks are not
        seen by all.
        """

    def now(self) -> datetime | None:
        """The time of the database's own clock; None where it has none but this machine's."""
        return None

    def try_lock(self, name: str) -> bool:
        """Take a lock of this connection at once, or not at all; True where there are none."""
        return True

    def unlock(self, name: str) -> None:
        """Give it back; harmless when the connection is another by now."""

    @contextmanager
    def recursion_unlimited(self) -> Iterator[None]:
        """Recursive statements within go on until they have found all."""
        yield

    def sessions_in_circles(self, most: int) -> tuple[int, list[str]]:
        """How many sessions are above themselves by their parents, or below such ones, and `most`
        of their ids: those that nobody comes to who goes down from where there is no parent.
        """
        # Nobody has two parents: going down comes to each of them once, and to no circle. Counted,
        # since MariaDB would look through all that is reached for each session.
        sql = """
            WITH RECURSIVE reached (id) AS (
                SELECT child.id FROM asm_sessions child
                LEFT JOIN asm_sessions parent ON parent.id = child.parent_session_id
                WHERE child.parent_session_id IS NOT NULL
                AND (parent.id IS NULL OR parent.parent_session_id IS NULL)
                UNION ALL
                SELECT child.id FROM reached
                JOIN asm_sessions child ON child.parent_session_id = reached.id
            )
            SELECT id, COUNT(*) OVER () FROM (
                SELECT id FROM (
                    SELECT id FROM asm_sessions WHERE parent_session_id IS NOT NULL
                    UNION ALL
                    SELECT id FROM reached
                ) found GROUP BY id HAVING COUNT(*) = 1
            ) never
            ORDER BY id LIMIT %s
        """
        with self.recursion_unlimited(), self.connection.cursor() as cursor:
            cursor.execute(sql, [most])
            rows = cursor.fetchall()
        return (rows[0][1] if rows else 0), [pk for pk, _ in rows]

    def is_in_circle(self, session_id: str) -> bool:
        """Whether this session is one of them: going up from it comes to no end."""
        sql = """
            WITH RECURSIVE above (id, parent_id) AS (
                SELECT id, parent_session_id FROM asm_sessions WHERE id = %s
                UNION
                SELECT parent.id, parent.parent_session_id FROM above
                JOIN asm_sessions parent ON parent.id = above.parent_id
            )
            SELECT COUNT(*) > 0 AND COUNT(*) = COUNT(parent.id) FROM above
            LEFT JOIN asm_sessions parent ON parent.id = above.parent_id
        """
        with self.recursion_unlimited():
            return bool(self.scalar(sql, [session_id]))

    def estimated_rows(self, table: str) -> int:
        """About how many rows a table has, without counting them."""
        raise NotImplementedError

    def scalar(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The one value that a statement gives."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            [value] = cursor.fetchone()
        return value

    def classify(self, error: Exception) -> Failure:
        """What the driver's `error` means; Django has wrapped it, but where it is closing."""
        if isinstance(error, InterfaceError):
            return Failure.CONNECTION
        return Failure.OTHER

    def slices(self, values: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """`values` in slices that fit one statement."""
        for start in range(0, len(values), self.max_parameters):
            yield values[start : start + self.max_parameters]

    @staticmethod
    def code(error: Exception) -> Any:
        """The first argument of the driver's own error: MySQL's number."""
        cause = error.__cause__ or error
        return cause.args[0] if cause.args else None
