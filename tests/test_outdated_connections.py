"""Connections that go on, but not as they were: a new one is made, and the call made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from tests.cases import only_on
from tests.databases import vendor_of
from tests.failures import OWN_NUMBER, append, execute, stored
from tests.threads import run_threads
from tests.waiting.waiters import until

# The session takes no writes any more: as the server does whose standby has become the primary.
READ_ONLY = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}
LISTED = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
# The driver does not notice it so.
TAKE_BACK = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
TAKE_NAMES = """DO $$ BEGIN FOR n IN 0..99 LOOP
    BEGIN
        EXECUTE 'PREPARE _pg3_' || n || ' AS SELECT 1';
    EXCEPTION WHEN duplicate_prepared_statement THEN NULL;
    END;
END LOOP; END $$"""
# Each statement is prepared at once.
prepared = only_on("postgresql_other")


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


def numbers(using: str, session: Session) -> list[int]:
    return [number for _pk, number in stored(using, session)]


class TestReadOnly:
    def test_the_next_connection_writes(
        self, server: str, session: Session, retries: list[str]
    ) -> None:
        execute(server, READ_ONLY[vendor_of(server)])
        append(server, session)
        execute(server, READ_ONLY[vendor_of(server)])
        store = DatabaseSessionStore(server)
        store.append_events([make_event(session), make_event(session)])
        assert numbers(server, session) == [1, 2, 3]
        assert retries == ["connection"] * 2

    def test_of_the_callers_block_is_an_error(self, server: str, session: Session) -> None:
        def append_in_a_block() -> None:
            with transaction.atomic(using=server):
                append(server, session)

        execute(server, READ_ONLY[vendor_of(server)])
        with pytest.raises(StorageError):
            append_in_a_block()
        with override_settings(ASM_STORE_RETRY_SECONDS=0), pytest.raises(StorageError):
            append(server, session)
        assert numbers(server, session) == []
        append_in_a_block()
        assert numbers(server, session) == [1]


def in_another_thread(using: str, sql: str) -> None:
    run_threads([lambda: execute(using, sql)])


@prepared
class TestPreparedStatements:
    @pytest.fixture(autouse=True)
    def prepare(self, using: str, session: Session) -> None:
        append(using, session)
        assert numbers(using, session) == [1]

    def test_that_are_taken_back(self, using: str, session: Session, retries: list[str]) -> None:
        """As a pooler does that resets its connections."""
        execute(using, TAKE_BACK)
        assert numbers(using, session) == [1]
        append(using, session)
        execute(using, TAKE_BACK)
        append(using, session)
        assert numbers(using, session) == [1, 2, 3]
        assert retries == ["connection"] * 2

    def test_whose_names_are_others(self, using: str, session: Session, retries: list[str]) -> None:
        """As behind a pooler that lends a connection on which another client has prepared his."""
        execute(using, TAKE_NAMES)
        events = [make_event(session), make_event(session)]
        DatabaseSessionStore(using).append_events(events)
        assert retries == ["connection"]
        assert numbers(using, session) == [1, 2, 3]

    def test_whose_result_has_another_type(
        self, using: str, session: Session, retries: list[str]
    ) -> None:
        """As a migration makes it while the processes go on."""
        alter = "ALTER TABLE asm_events ALTER COLUMN provider TYPE varchar({})"
        try:
            in_another_thread(using, alter.format(300))
            append(using, session)
            assert numbers(using, session) == [1, 2]
            assert retries == ["connection"]
        finally:
            in_another_thread(using, alter.format(255))
        with transaction.atomic(using=using):
            append(using, session)
        assert numbers(using, session) == [1, 2, 3]

    def test_in_the_callers_block_it_is_an_error_once(self, using: str, session: Session) -> None:
        def append_in_a_block() -> None:
            with transaction.atomic(using=using):
                append(using, session)

        append_in_a_block()
        execute(using, TAKE_BACK)
        with pytest.raises(StorageError):
            append_in_a_block()
        append_in_a_block()
        assert numbers(using, session) == [1, 2, 3]


def idle(using: str) -> None:
    """This thread's transaction pauses, until its server has ended the connection."""
    execute(using, "SET idle_in_transaction_session_timeout = '10ms'")
    [[number]] = execute(using, OWN_NUMBER["postgresql"])
    gone = lambda: until(lambda: not execute(using, LISTED, number), "it is ended")  # noqa: E731
    run_threads([gone])


@only_on("postgresql")
class TestAPauseInATransaction:
    def test_of_the_stores_own(self, using: str, session: Session, retries: list[str]) -> None:
        """As of a machine that was suspended."""

        def pause(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            if sql.startswith("COPY") and not retries:
                idle(using)
            return run(sql, *arguments)

        events = [make_event(session) for _ in range(3)]
        with connections[using].execute_wrapper(pause):
            DatabaseSessionStore(using).append_events(events)
        assert retries == ["connection"]
        assert numbers(using, session) == [1, 2, 3]

    def test_of_the_callers(self, using: str, session: Session) -> None:
        """He repeats it, with the same instances."""
        store, event = DatabaseSessionStore(using), make_event(session)

        def in_a_block(then: Callable[[], Any]) -> Event:
            with transaction.atomic(using=using):
                store.append_event(event)
                then()
                return store.append_event_with_sequence(make_event(session))

        with pytest.raises(StorageError):
            in_a_block(lambda: idle(using))
        assert in_a_block(lambda: None).sequence_number == 2
        assert stored(using, session)[0] == (event.pk, 1)


class TestWithoutAutocommit:
    def test_what_is_rolled_back_is_appended_again(self, using: str, session: Session) -> None:
        store, events = DatabaseSessionStore(using), [make_event(session) for _ in range(3)]

        def work() -> None:
            transaction.set_autocommit(False, using=using)
            for end in (transaction.rollback, transaction.commit):
                store.append_event(events[0])
                store.append_events(events)
                end(using=using)

        run_threads([work])
        assert stored(using, session) == [(event.pk, n) for n, event in enumerate(events, 1)]
