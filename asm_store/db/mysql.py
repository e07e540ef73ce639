from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from django.db import InterfaceError
from django.db.models import Model, QuerySet

from ..models import SessionSequence
from .base import BaseOperations, Failure

_clusters: dict[tuple[str, object], bool] = {}


class MySQLOperations(BaseOperations):
    # MariaDB knows MySQL 8's FOR SHARE only by its older name, which MySQL knows too.
    share_lock = "LOCK IN SHARE MODE"
    locks_gaps = True  # under REPEATABLE READ, the server's default though not Django's
    max_parameters = 5_000
    # Half of it may be backslashes that the driver adds; max_allowed_packet is 16 MiB by default.
    max_statement_bytes = 4 * 1024 * 1024

    # https://mariadb.com/kb/en/mariadb-error-codes/
    busy: ClassVar = frozenset({1020, 1205, 1213, 1637, 3572})
    # Lost or refused; and a server that takes no writes any more, since another does.
    gone: ClassVar = frozenset(
        {1290, 1792, 1836}
        | {1040, 1047, 1053, 1077, 1078, 1079, 1158, 1159, 1160, 1161, 1203, 1927}
        | {2002, 2003, 2006, 2013, 2055, 4031}
    )

    def make_counter(self, counter: SessionSequence) -> None:
        # INSERT IGNORE would lock the row shared: two writers who go on to lock it for update
        # wait for each other. This locks it for update at once, and changes nothing.
        sql = (
            "INSERT INTO asm_session_sequences (session_id, last_sequence, updated_at) "
            "VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE session_id = session_id"
        )
        made_at = self.connection.ops.adapt_datetimefield_value(counter.updated_at)
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [counter.session_id, counter.last_sequence, made_at])

    def insert_selected(
        self, model: type[Model], rows: QuerySet[Any, dict[str, Any]], **same: Any
    ) -> None:
        """Under REPEATABLE READ what an INSERT selects is locked: who writes it would wait."""
        found = (model(**row, **same) for row in rows)
        model._base_manager.using(self.connection.alias).bulk_create(found)

    def show_locks(self, session_ids: Iterable[str]) -> None:
        """Galera certifies what a transaction has changed, not what it has locked.

        Without this, a run could be stored on one node while its session is deleted on another.
        https://mariadb.com/kb/en/certification-based-replication/
        """
        if self._is_cluster():
            sql = (
                "UPDATE asm_session_sequences SET updated_at = updated_at + INTERVAL 1 MICROSECOND"
                " WHERE session_id = %s"
            )
            with self.connection.cursor() as cursor:
                for session_id in sorted(session_ids):
                    cursor.execute(sql, [session_id])

    def _is_cluster(self) -> bool:
        """Asked once of each server, by a process."""
        settings = self.connection.settings_dict
        place = (settings["HOST"], settings["PORT"])
        if place not in _clusters:
            is_mariadb = getattr(self.connection, "mysql_is_mariadb", False)
            _clusters[place] = is_mariadb and bool(self.scalar("SELECT @@GLOBAL.wsrep_on"))
        return _clusters[place]

    @contextmanager
    def recursion_unlimited(self) -> Iterator[None]:
        """After 1,000 rounds MariaDB would give what it has by then, and MySQL an error."""
        is_mariadb = getattr(self.connection, "mysql_is_mariadb", False)
        limit = "max_recursive_iterations" if is_mariadb else "cte_max_recursion_depth"
        before = self.scalar(f"SELECT @@SESSION.{limit}")
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {limit} = 4294967295")
            try:
                yield
            finally:
                cursor.execute(f"SET SESSION {limit} = %s", [before])

    def now(self) -> datetime:
        return cast(datetime, self.scalar("SELECT UTC_TIMESTAMP(6)")).replace(tzinfo=UTC)

    def estimated_rows(self, table: str) -> int:
        """InnoDB's own estimate, which may be off by half."""
        sql = (
            "SELECT coalesce(max(table_rows), 0) FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = %s"
        )
        return int(self.scalar(sql, [table]))

    # Locks are the server's, not the database's: https://mariadb.com/kb/en/get_lock/

    def try_lock(self, name: str) -> bool:
        return bool(self.scalar("SELECT GET_LOCK(SHA1(CONCAT(DATABASE(), %s)), 0)", [name]))

    def unlock(self, name: str) -> None:
        self.scalar("SELECT RELEASE_LOCK(SHA1(CONCAT(DATABASE(), %s)))", [name])

    def classify(self, error: Exception) -> Failure:
        code = self.code(error)
        if code == 1146:
            return Failure.NO_TABLE
        if code in self.busy:
            return Failure.BUSY
        if code in self.gone or isinstance(error, InterfaceError):
            return Failure.CONNECTION
        return Failure.OTHER
