"""The sqlite3 of the standard library, with the journal of the alias."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any, ClassVar

from django.db import connections

from .base import StatementBaseline

COUNT = (
    "UPDATE asm_session_sequences SET last_sequence = last_sequence + ?, updated_at = ? "
    "WHERE session_id = ? RETURNING last_sequence"
)


class SQLiteBaseline(StatementBaseline):
    mark: ClassVar[str] = "?"
    begin: ClassVar[str] = "BEGIN IMMEDIATE"
    make_counter: ClassVar[str] = (
        "INSERT INTO asm_session_sequences (session_id, last_sequence, updated_at) "
        "VALUES (?, 0, ?) ON CONFLICT (session_id) DO NOTHING"
    )

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        database = connections[alias].settings_dict
        self._connection = sqlite3.connect(database["NAME"], timeout=60, isolation_level=None)
        self._connection.executescript(database["OPTIONS"].get("init_command", ""))
        self.cursor = self._connection.cursor()

    def count(self, session_id: str, events: int) -> int:
        self.cursor.execute(COUNT, [events, self.time(datetime.now().astimezone()), session_id])
        [[latest]] = self.cursor.fetchall()
        return int(latest)

    def time(self, moment: datetime) -> Any:
        return str(super().time(moment))

    def read_time(self, value: Any) -> datetime:
        return datetime.fromisoformat(value)

    def close(self) -> None:
        self._connection.close()
