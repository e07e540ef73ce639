"""SQLite's append of one event, whose transaction is made by hand: it is ended however it goes."""

from __future__ import annotations

import inspect
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.sqlite import SQLiteOperations
from asm_store.exceptions import RunNotFound, SessionDeleted, StorageError
from asm_store.models import Session
from asm_store.test import make_event
from tests.cases import only_on
from tests.failures import execute


def pragma(using: str, name: str, value: object) -> Any:
    with connections[using].cursor() as cursor:
        before = cursor.execute(f"PRAGMA {name}").fetchone()[0]
        cursor.execute(f"PRAGMA {name} = {value}")
    return before


def is_open(using: str) -> bool:
    return bool(connections[using].connection.in_transaction)


@contextmanager
def traced(using: str) -> Iterator[list[str]]:
    """The statements as SQLite gets them."""
    statements: list[str] = []
    connections[using].connection.set_trace_callback(statements.append)
    yield statements
    connections[using].connection.set_trace_callback(None)


def interrupt_at(line: int, work: Callable[[], Any]) -> bool:
    """Do `work`, with Ctrl-C at this line of what is done by hand; False: it has fewer.

    Not at those that end the transaction: Python looks for signals where calls return, and none
    does between the end of the `try` block and the call that rolls back.
    """
    left = line
    lines, first = inspect.getsourcelines(SQLiteOperations.append)
    last = first + next(number for number, text in enumerate(lines) if "driver.commit()" in text)

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != SQLiteOperations.append.__code__.co_filename:
            return None
        is_done = frame.f_code.co_name == "append" and frame.f_lineno > last
        if kind == "line" and frame.f_code.co_name in ("append", "_store") and not is_done:
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except (KeyboardInterrupt, RunNotFound):
        pass
    finally:
        sys.settrace(before)
    return left < 0


@only_on("default")
class TestByHand:
    def test_is_two_statements_in_a_transaction(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        with traced(database_store.using) as statements:
            database_store.append_event(make_event(session))

        assert [sql.split()[0] for sql in statements] == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]

    def test_threads_that_share_the_connection_have_django_make_it(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        shared = connections[database_store.using]
        shared.inc_thread_sharing()
        try:
            with traced(database_store.using) as statements:
                database_store.append_event(make_event(session))
        finally:
            shared.dec_thread_sharing()

        assert "BEGIN IMMEDIATE" not in statements
        assert database_store.get_latest_sequence(session.id) == 1

    def test_a_transaction_that_the_caller_began_stays_his(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        execute(database_store.using, "BEGIN")
        with pytest.raises(StorageError, match="within a transaction"):
            database_store.append_event(make_event(session))
        assert is_open(database_store.using)
        execute(database_store.using, "ROLLBACK")

        assert database_store.append_event_with_sequence(make_event(session)).sequence_number == 1

    def test_a_wrapper_that_raises_leaves_none(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        for most in range(4):
            left = iter(range(most))

            def count(run: Any, *given: Any, left: Iterator[int] = left) -> Any:
                next(left)  # StopIteration, from then on
                return run(*given)

            with suppress(StopIteration), connections[database_store.using].execute_wrapper(count):
                database_store.append_event(make_event(session))
            assert not is_open(database_store.using)

    def test_an_interrupt_at_any_line_leaves_none(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        stored = database_store.append_event_with_sequence(make_event(session))
        for event in (stored, make_event(session, run_id="unknown"), make_event(session)):
            interrupted = 0
            while interrupt_at(interrupted, partial(database_store.append_event, event)):
                assert not is_open(database_store.using)
                interrupted += 1
            assert interrupted > 5

        assert database_store.append_event_with_sequence(make_event(session)).sequence_number == 3

    def test_a_refused_event_leaves_none(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        database_store.soft_delete_session(session.id)
        with pytest.raises(SessionDeleted):
            database_store.append_event(make_event(session))

        assert not is_open(database_store.using)
        assert database_store.get_latest_sequence(session.id) == 0

    @override_settings(ASM_STORE_RETRY_SECONDS=0)
    def test_a_full_disk_leaves_none(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        execute(database_store.using, "VACUUM")  # no page is free
        most = pragma(database_store.using, "max_page_count", 1)  # as many as there are
        try:
            with pytest.raises(StorageError, match="full"):
                database_store.append_event(make_event(session, data={"text": "x" * 100_000}))
        finally:
            pragma(database_store.using, "max_page_count", most)

        assert not is_open(database_store.using)
        assert database_store.append_event_with_sequence(make_event(session)).sequence_number == 1

    @override_settings(ASM_STORE_RETRY_SECONDS=0)
    def test_a_commit_that_is_refused_leaves_none(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        name = connections[database_store.using].settings_dict["NAME"]
        before = {
            "journal_mode": pragma(database_store.using, "journal_mode", "DELETE"),
            "busy_timeout": pragma(database_store.using, "busy_timeout", 1),
        }
        try:
            with closing(sqlite3.connect(name)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM asm_sessions").fetchall()  # nobody commits now
                with pytest.raises(StorageError, match="locked"):
                    database_store.append_event(make_event(session))
                assert not is_open(database_store.using)
        finally:
            for setting, value in before.items():
                pragma(database_store.using, setting, value)

        assert database_store.append_event_with_sequence(make_event(session)).sequence_number == 1
