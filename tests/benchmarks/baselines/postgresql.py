"""psycopg 3: prepared statements, one of them an append; COPY for more."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connections

from asm_store.models import Run, Session

from .base import EVENT, PACKED, SESSION_ID, Baseline

MAKE_COUNTER = (
    "INSERT INTO asm_session_sequences (session_id, last_sequence, updated_at) "
    "VALUES (%s, 0, %s) ON CONFLICT (session_id) DO NOTHING"
)
COUNT = (
    "UPDATE asm_session_sequences SET last_sequence = last_sequence + %s, updated_at = now() "
    "WHERE session_id = %s RETURNING last_sequence"
)
APPEND = (
    f"WITH counter AS ({COUNT}) INSERT INTO asm_events ({EVENT}) "
    f"SELECT {Baseline.marks(len(PACKED))}, last_sequence FROM counter RETURNING sequence_number"
)
COPY = f"COPY asm_events ({EVENT}) FROM STDIN"


class PostgreSQLBaseline(Baseline):
    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        database = connections[alias].settings_dict
        self._connection = psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            autocommit=True,
            prepare_threshold=0,
        )
        self._cursor = self._connection.cursor()

    def append(self, event: Any) -> None:
        self._cursor.execute(APPEND, [1, event[SESSION_ID], *self.encoded(event)])
        self._cursor.fetchone()

    def append_batch(self, events: list[Any]) -> None:
        with self._connection.transaction():
            self._cursor.execute(COUNT, [len(events), events[0][SESSION_ID]])
            self._copy(events)

    def _copy(self, events: list[Any]) -> None:
        """Store events for which the latest statement has moved the counter."""
        [latest] = self._cursor.fetchone() or [0]
        with self._cursor.copy(COPY) as copy:
            for number, event in enumerate(events, latest - len(events) + 1):
                copy.write_row([*self.encoded(event), number])

    def flush(self, session: Session, run: Run, events: list[Any]) -> None:
        with self._connection.pipeline():
            self._cursor.execute("BEGIN")
            self._cursor.execute(self.save_session, self.row(session))
            self._cursor.execute(MAKE_COUNTER, [session.pk, session.updated_at])
            self._cursor.execute(self.save_run, self.row(run))
            self._cursor.execute(COUNT, [len(events), session.pk])
        self._copy(events)
        self._cursor.execute("COMMIT")

    def read(self, session_id: str) -> int:
        return self._fetch(self.select, [session_id])

    def read_last(self, session_id: str, count: int) -> int:
        return self._fetch(self.select_last, [session_id, count])

    def _fetch(self, sql: str, parameters: list[Any]) -> int:
        # The driver decodes times and JSON.
        return len(self._cursor.execute(sql, parameters).fetchall())

    def close(self) -> None:
        self._connection.close()

    def postgresql(self) -> Any:
        return self._connection.pgconn
