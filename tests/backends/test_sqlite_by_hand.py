"""SQLite's append of one event, whose transaction is made by hand: it is ended however it goes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import SessionDeleted, StorageError
from asm_store.models import Session
from asm_store.test import make_event, make_session
from tests.cases import only_on
from tests.failures import execute


@pytest.fixture
def store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using)


@pytest.fixture
def session(store: DatabaseSessionStore) -> Session:
    return store.save_session(make_session())


def pragma(using: str, name: str, value: object) -> Any:
    with connections[using].cursor() as cursor:
        before = cursor.execute(f"PRAGMA {name}").fetchone()[0]
        cursor.execute(f"PRAGMA {name} = {value}")
    return before


def is_open(using: str) -> bool:
    return bool(connections[using].connection.in_transaction)


@only_on("default")
class TestByHand:
    def test_is_two_statements_in_a_transaction(
        self, store: DatabaseSessionStore, session: Session
    ) -> None:
        with CaptureQueriesContext(connections[store.using]) as captured:
            store.append_event(make_event(session))

        words = [query["sql"].split()[0] for query in captured]
        assert words == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]

    def test_threads_that_share_the_connection_have_django_make_it(
        self, store: DatabaseSessionStore, session: Session
    ) -> None:
        shared = connections[store.using]
        shared.inc_thread_sharing()
        try:
            with CaptureQueriesContext(shared) as captured:
                store.append_event(make_event(session))
        finally:
            shared.dec_thread_sharing()

        assert "BEGIN IMMEDIATE" not in [query["sql"] for query in captured]
        assert store.get_latest_sequence(session.id) == 1

    def test_a_refused_event_leaves_none(
        self, store: DatabaseSessionStore, session: Session
    ) -> None:
        store.soft_delete_session(session.id)
        with pytest.raises(SessionDeleted):
            store.append_event(make_event(session))

        assert not is_open(store.using)
        assert store.get_latest_sequence(session.id) == 0

    @override_settings(ASM_STORE_RETRY_SECONDS=0)
    def test_a_full_disk_leaves_none(self, store: DatabaseSessionStore, session: Session) -> None:
        execute(store.using, "VACUUM")  # no page is free
        most = pragma(store.using, "max_page_count", 1)  # as many as there are
        try:
            with pytest.raises(StorageError, match="full"):
                store.append_event(make_event(session, data={"text": "x" * 100_000}))
        finally:
            pragma(store.using, "max_page_count", most)

        assert not is_open(store.using)
        assert store.append_event_with_sequence(make_event(session)).sequence_number == 1

    @override_settings(ASM_STORE_RETRY_SECONDS=0)
    def test_a_commit_that_is_refused_leaves_none(
        self, store: DatabaseSessionStore, session: Session
    ) -> None:
        name = connections[store.using].settings_dict["NAME"]
        before = {
            "journal_mode": pragma(store.using, "journal_mode", "DELETE"),
            "busy_timeout": pragma(store.using, "busy_timeout", 1),
        }
        try:
            with closing(sqlite3.connect(name)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM asm_sessions").fetchall()  # nobody commits now
                with pytest.raises(StorageError, match="locked"):
                    store.append_event(make_event(session))
                assert not is_open(store.using)
        finally:
            for setting, value in before.items():
                pragma(store.using, setting, value)

        assert store.append_event_with_sequence(make_event(session)).sequence_number == 1
