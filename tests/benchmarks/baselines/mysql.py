"""mysqlclient, for MariaDB and MySQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import MySQLdb
from django.db import connections

from .base import StatementBaseline

COUNT = (
    "UPDATE asm_session_sequences SET last_sequence = LAST_INSERT_ID(last_sequence + %s), "
    "updated_at = UTC_TIMESTAMP(6) WHERE session_id = %s"
)


class MySQLBaseline(StatementBaseline):
    upsert: ClassVar[tuple[str, str]] = ("ON DUPLICATE KEY UPDATE", "VALUES({})")
    begin: ClassVar[str] = "BEGIN"
    make_counter: ClassVar[str] = (
        "INSERT INTO asm_session_sequences (session_id, last_sequence, updated_at) "
        "VALUES (%s, 0, %s) ON DUPLICATE KEY UPDATE session_id = session_id"
    )

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        database = connections[alias].settings_dict
        self._connection = MySQLdb.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            database=database["NAME"],
            charset="utf8mb4",
            autocommit=True,
        )
        self.cursor = self._connection.cursor()

    def count(self, session_id: str, events: int) -> int:
        self.cursor.execute(COUNT, [events, session_id])
        return int(self.cursor.lastrowid)

    def read_time(self, value: Any) -> datetime:
        assert isinstance(value, datetime)
        return value

    def close(self) -> None:
        self._connection.close()
