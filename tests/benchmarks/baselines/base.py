"""The least SQL that stores and fetches the same as the store, without its checks."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar

from asm_store.models import Event, Record, Run, Session

from ..clients import Client

# An event's columns as `packed()` has them; its number comes after them.
PACKED = (
    "id", "type", "timestamp", "session_id", "run_id", "data", "metadata",
    "schema_version", "provider", "correlation_id",
)  # fmt: skip
TIMESTAMP, SESSION_ID, DATA, METADATA = map(
    PACKED.index, ("timestamp", "session_id", "data", "metadata")
)
EVENT = ", ".join([*PACKED, "sequence_number"])


@cache
def columns_of(kind: type[Record]) -> list[str]:
    """The columns that are stored; the database generates the others."""
    return [field.attname for field in kind._meta.concrete_fields if not field.generated]


class Baseline(Client):
    """What the vendors have in common; their drivers want one mark for a parameter or another."""

    mark: ClassVar[str] = "%s"
    # What follows an INSERT to make it replace the row, and how it names a new value.
    upsert: ClassVar[tuple[str, str]] = ("ON CONFLICT (id) DO UPDATE SET", "EXCLUDED.{}")

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        chosen = f"SELECT {EVENT} FROM asm_events WHERE session_id = {self.mark}"
        self.select = f"{chosen} ORDER BY sequence_number"
        self.select_last = f"{self.select} DESC LIMIT {self.mark}"
        self.save_session = self._saving(Session)
        self.save_run = self._saving(Run)

    def _saving(self, kind: type[Record]) -> str:
        names = [field.attname for field in kind._meta.concrete_fields if not field.generated]
        into = f"INSERT INTO {kind._meta.db_table} ({', '.join(names)})"
        conflict, new = self.upsert
        changes = ", ".join(f"{name} = {new.format(name)}" for name in names if name != "id")
        return f"{into} VALUES ({self.marks(len(names))}) {conflict} {changes}"

    @classmethod
    def marks(cls, count: int) -> str:
        return ", ".join([cls.mark] * count)

    def packed(self, events: Sequence[Event]) -> list[Any]:
        return [[getattr(event, name) for name in PACKED] for event in events]

    def encoded(self, event: Sequence[Any]) -> list[Any]:
        """A packed event as the driver takes it."""
        row = list(event)
        row[TIMESTAMP] = self.time(row[TIMESTAMP])
        row[DATA], row[METADATA] = json.dumps(row[DATA]), json.dumps(row[METADATA])
        return row

    def row(self, record: Session | Run) -> list[Any]:
        """All columns of a record as the driver takes them."""
        fields = (field for field in record._meta.concrete_fields if not field.generated)
        values = (getattr(record, field.attname) for field in fields)
        return [self._value(value) for value in values]

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict | list):
            return json.dumps(value)
        return self.time(value) if isinstance(value, datetime) else value

    def time(self, moment: datetime) -> Any:
        return moment


class StatementBaseline(Baseline):
    """For drivers whose best is a transaction of a few statements; their times have no zone."""

    cursor: Any
    begin: ClassVar[str]
    make_counter: ClassVar[str]

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self.insert = f"INSERT INTO asm_events ({EVENT}) VALUES ({self.marks(len(PACKED) + 1)})"

    @abstractmethod
    def count(self, session_id: str, events: int) -> int:
        """Move a session's counter; the number that it has then."""

    @abstractmethod
    def read_time(self, value: Any) -> datetime: ...

    def time(self, moment: datetime) -> Any:
        return moment.astimezone(UTC).replace(tzinfo=None)

    def append(self, event: Any) -> None:
        self.cursor.execute(self.begin)
        number = self.count(event[SESSION_ID], 1)
        self.cursor.execute(self.insert, [*self.encoded(event), number])
        self.cursor.execute("COMMIT")

    def append_batch(self, events: list[Any]) -> None:
        self.cursor.execute(self.begin)
        self._insert(events)
        self.cursor.execute("COMMIT")

    def _insert(self, events: list[Any]) -> None:
        first = self.count(events[0][SESSION_ID], len(events)) - len(events) + 1
        rows = [[*self.encoded(event), number] for number, event in enumerate(events, first)]
        self.cursor.executemany(self.insert, rows)

    def flush(self, session: Session, run: Run, events: list[Any]) -> None:
        self.cursor.execute(self.begin)
        self.cursor.execute(self.save_session, self.row(session))
        self.cursor.execute(self.make_counter, [session.pk, self.time(session.updated_at)])
        self.cursor.execute(self.save_run, self.row(run))
        self._insert(events)
        self.cursor.execute("COMMIT")

    def read(self, session_id: str) -> int:
        return self._fetch(self.select, [session_id])

    def read_last(self, session_id: str, count: int) -> int:
        return self._fetch(self.select_last, [session_id, count])

    def _fetch(self, sql: str, parameters: list[Any]) -> int:
        self.cursor.execute(sql, parameters)
        return len([self._decoded(row) for row in self.cursor.fetchall()])

    def _decoded(self, row: Sequence[Any]) -> list[Any]:
        event = list(row)
        event[TIMESTAMP] = self.read_time(row[TIMESTAMP]).replace(tzinfo=UTC)
        event[DATA], event[METADATA] = json.loads(row[DATA]), json.loads(row[METADATA])
        return event
