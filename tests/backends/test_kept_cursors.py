"""PostgreSQL's appends keep a cursor with their connection; nothing else is seen of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.postgresql import KEPT_CURSOR, MAX_KEPT_BYTES
from asm_store.exceptions import StorageError
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from tests.cases import only_on
from tests.failures import execute

WRITERS = 4
EACH = 25


def kept(using: str) -> Any:
    return vars(connections[using].connection).get(KEPT_CURSOR)


@only_on("postgresql")
class TestKeptCursor:
    def test_serves_the_next_append(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        database_store.append_event(make_event(session))
        first = kept(database_store.using)
        database_store.append_event(make_event(session))

        assert first is not None
        assert kept(database_store.using) is first
        assert database_store.get_latest_sequence(session.id) == 2

    def test_a_new_connection_has_a_new_one(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        database_store.append_event(make_event(session))
        first = kept(database_store.using)
        connections[database_store.using].close()
        database_store.append_event(make_event(session))

        assert kept(database_store.using) is not first
        assert database_store.get_latest_sequence(session.id) == 2

    def test_holds_nothing_large(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        large = {"text": "x" * MAX_KEPT_BYTES}
        database_store.append_event(make_event(session, data=large))

        assert kept(database_store.using) is None

    def test_texts_are_sent_in_the_encoding_of_the_moment(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        database_store.append_event(make_event(session))
        execute(database_store.using, "SET client_encoding TO LATIN1")
        database_store.append_event(make_event(session, data={"text": "\u00e9"}))
        connections[database_store.using].close()

        assert database_store.get_events(session.pk)[1].data == {"text": "\u00e9"}

    def test_who_looks_on_sees_the_statement(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        database_store.append_event(make_event(session))
        seen: list[str] = []

        def look(execute: Any, sql: str, *others: Any) -> Any:
            seen.append(sql)
            return execute(sql, *others)

        with connections[database_store.using].execute_wrapper(look):
            database_store.append_event(make_event(session))
        with CaptureQueriesContext(connections[database_store.using]) as captured:
            database_store.append_event(make_event(session))

        assert ["asm_append_event" in sql for sql in seen] == [True]
        assert ["asm_append_event" in query["sql"] for query in captured] == [True]

    def test_threads_that_share_a_connection_have_their_own_answers(
        self, database_store: DatabaseSessionStore
    ) -> None:
        shared = connections[database_store.using]
        shared.ensure_connection()
        together = threading.Barrier(WRITERS)
        sessions = [database_store.save_session(make_session()) for _ in range(WRITERS)]

        def write(session: Session) -> list[Event]:
            connections[database_store.using] = shared
            together.wait(30)
            return [
                database_store.append_event_with_sequence(make_event(session)) for _ in range(EACH)
            ]

        shared.inc_thread_sharing()
        try:
            with ThreadPoolExecutor(WRITERS) as pool:
                written = list(pool.map(write, sessions))
        finally:
            shared.dec_thread_sharing()

        for session, events in zip(sessions, written, strict=True):
            assert [event.sequence_number for event in events] == list(range(1, EACH + 1))
            assert database_store.get_events(session.id) == events

    def test_another_thread_may_not_use_it(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        shared = connections[database_store.using]
        database_store.append_event(make_event(session))

        def write() -> None:
            connections[database_store.using] = shared
            database_store.append_event(make_event(session))

        with ThreadPoolExecutor(1) as pool, pytest.raises(StorageError) as caught:
            pool.submit(write).result()

        assert isinstance(caught.value.__cause__, DatabaseError)
        assert database_store.get_latest_sequence(session.id) == 1

    def test_a_broken_transaction_takes_no_append(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        with transaction.atomic(using=database_store.using):
            transaction.set_rollback(True, using=database_store.using)
            with pytest.raises(StorageError, match="current transaction"):
                database_store.append_event(make_event(session))

        assert database_store.get_latest_sequence(session.id) == 0
