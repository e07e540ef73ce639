"""PostgreSQL's function of an append: what it leaves as it was, and how it is done without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db import NoFunction, get_operations, postgresql
from asm_store.db.statements import GIVEN_TO_APPEND
from asm_store.exceptions import RunNotFound, SequenceConflict, SessionDeleted, StorageError
from asm_store.models import Event, Session, SessionSequence
from asm_store.test import make_event, make_run
from tests.cases import only_on, with_access
from tests.failures import execute
from tests.threads import run_threads

BROKEN_TRIGGER = (
    """CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM no_such_function(); RETURN NEW; END $$""",
    "CREATE TRIGGER broken BEFORE INSERT ON asm_events FOR EACH ROW EXECUTE FUNCTION broken()",
)
# A role of which the tables' owner has taken what everybody may.
NO_RIGHT = (
    "CREATE ROLE asm_clerk",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO asm_clerk",
    "REVOKE EXECUTE ON FUNCTION asm_append_event FROM PUBLIC",
)
RIGHT_AGAIN = (
    "GRANT EXECUTE ON FUNCTION asm_append_event TO PUBLIC",
    "DROP OWNED BY asm_clerk",
    "DROP ROLE asm_clerk",
)
TABLES = ["asm_events", "asm_runs", "asm_sessions", "asm_session_sequences"]


def counter(store: DatabaseSessionStore) -> tuple[int, Any]:
    rows = SessionSequence.objects.using(store.using)
    return rows.values_list("last_sequence", "updated_at").get()


def deleted(store: DatabaseSessionStore, session: Session, first: Event) -> None:
    store.soft_delete_session(session.pk)
    with pytest.raises(SessionDeleted):
        store.append_event(make_event(session))


def stored_already(store: DatabaseSessionStore, session: Session, first: Event) -> None:
    assert store.append_event_with_sequence(first).sequence_number == 1


def of_no_run(store: DatabaseSessionStore, session: Session, first: Event) -> None:
    with pytest.raises(RunNotFound):
        store.append_event(make_event(session, run_id="run_gone"))


def not_expected(store: DatabaseSessionStore, session: Session, first: Event) -> None:
    with pytest.raises(SequenceConflict):
        store.append_events([make_event(session)], expected_sequence=0)


@only_on("postgresql")
class TestFunction:
    def test_is_given_what_it_takes(self, using: str) -> None:
        [[names]] = execute(
            using, "SELECT proargnames FROM pg_proc WHERE oid = 'asm_append_event'::regproc"
        )
        assert set(names) == {f"given_{name}" for name in GIVEN_TO_APPEND}

    def test_is_all_that_an_append_is(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        with CaptureQueriesContext(connections[database_store.using]) as captured:
            database_store.append_event(make_event(session))

        assert ["asm_append_event" in query["sql"] for query in captured] == [True]

    @pytest.mark.parametrize("refused", [deleted, stored_already, of_no_run, not_expected])
    def test_changes_nothing_of_what_is_refused(
        self,
        database_store: DatabaseSessionStore,
        session: Session,
        refused: Callable[[DatabaseSessionStore, Session, Event], None],
    ) -> None:
        first = database_store.append_event_with_sequence(make_event(session))
        before = counter(database_store)

        refused(database_store, session, first)

        assert counter(database_store) == before
        assert database_store.get_events(session.pk) == [first]

    def test_looks_through_no_table(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        """Its plans are kept, also those of when a table had one page."""
        using, run = database_store.using, database_store.save_run(make_run(session))
        database_store.append_event(make_event(session, run=run))
        for table in TABLES:
            execute(using, f"ANALYZE {table}")
        with transaction.atomic(using=using):
            for _ in range(10):
                database_store.append_event(make_event(session, run=run))
            found = execute(
                using,
                "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname = ANY(%s)",
                TABLES,
            )

        assert dict(found) == dict.fromkeys(TABLES, 0)

    def test_a_function_of_a_trigger_is_not_taken_for_it(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        using = database_store.using
        for sql in BROKEN_TRIGGER:
            execute(using, sql)
        try:
            with pytest.raises(StorageError, match="no_such_function"):
                database_store.append_event(make_event(session))
        finally:
            execute(using, "DROP FUNCTION broken CASCADE")

        assert get_operations(using).appends_alone
        assert database_store.append_event_with_sequence(make_event(session)).sequence_number == 1


def restore(using: str) -> None:
    execute(using, "ALTER FUNCTION asm_set_aside RENAME TO asm_append_event")


@pytest.fixture
def set_aside(using: str) -> Iterator[None]:
    execute(using, "ALTER FUNCTION asm_append_event RENAME TO asm_set_aside")
    yield
    connections[using].close()
    [[name]] = execute(using, "SELECT to_regproc('asm_set_aside')")
    if name is not None:
        restore(using)


@pytest.mark.parametrize(
    "using", [with_access("postgresql"), with_access("postgresql_other")], indirect=True
)
@pytest.mark.usefixtures("set_aside")
class TestWithoutFunction:
    """As where the tables were made without migrations."""

    def test_an_append_takes_more_statements(
        self,
        database_store: DatabaseSessionStore,
        session: Session,
        retries: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        numbers = [
            database_store.append_event_with_sequence(make_event(session)).sequence_number
            for _ in range(3)
        ]

        assert numbers == [1, 2, 3]
        assert not retries
        [told] = [record for record in caplog.records if record.name == "asm_store"]
        assert "migration 0008" in told.getMessage()

    def test_a_block_keeps_what_it_has_done(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        with transaction.atomic(using=database_store.using):
            database_store.update_session(session.pk, add_tags=["before"])
            event = database_store.append_event_with_sequence(make_event(session))

        assert event.sequence_number == 1
        assert database_store.get_events(session.pk) == [event]
        assert database_store.get_session(session.pk).tags == ["before"]

    def test_a_flush_in_a_block_is_whole(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        run = make_run(session)
        with transaction.atomic(using=database_store.using):
            [event] = database_store.flush(session, run, [make_event(session, run=run)])

        assert database_store.get_events(session.pk) == [event]
        assert [each.pk for each in database_store.list_runs(session.pk)] == [run.pk]

    def test_a_transaction_by_hand_goes_on(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        transaction.set_autocommit(False, using=database_store.using)
        try:
            database_store.append_event(make_event(session))
            transaction.commit(using=database_store.using)
        finally:
            transaction.set_autocommit(True, using=database_store.using)

        assert database_store.get_latest_sequence(session.pk) == 1

    def test_another_thread_finds_it_out_meanwhile(
        self, database_store: DatabaseSessionStore, session: Session
    ) -> None:
        """An append that was begun as one call is no two statements outside of a transaction."""
        event = make_event(session).prepared()
        connections[database_store.using].ensure_connection()
        run_threads([lambda: database_store.append_event(make_event(session))])
        with pytest.raises(NoFunction):
            get_operations(database_store.using).append([event], None)

        assert database_store.get_latest_sequence(session.pk) == 1

    def test_it_is_called_again_later(
        self,
        database_store: DatabaseSessionStore,
        session: Session,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        using = database_store.using
        database_store.append_event(make_event(session))
        assert not get_operations(using).appends_alone
        restore(using)
        monkeypatch.setattr(postgresql, "TRY_AGAIN", 0.0)

        with CaptureQueriesContext(connections[using]) as captured:
            event = database_store.append_event_with_sequence(make_event(session))

        assert event.sequence_number == 2
        assert len(captured) == 1


@only_on("postgresql")
def test_who_may_not_call_it_appends_without(
    database_store: DatabaseSessionStore, session: Session
) -> None:
    using = database_store.using
    for sql in NO_RIGHT:
        execute(using, sql)
    try:
        execute(using, "SET ROLE asm_clerk")
        event = database_store.append_event_with_sequence(make_event(session))
        execute(using, "RESET ROLE")
    finally:
        connections[using].close()
        for sql in RIGHT_AGAIN:
            execute(using, sql)

    assert event.sequence_number == 1
    assert database_store.get_events(session.pk) == [event]
