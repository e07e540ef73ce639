"""Real failures of real databases, and what a store makes of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.test import override_settings

from asm_store.backends import transactions
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import MigrationRequired, SessionNotFound, StorageError
from asm_store.models import Session
from asm_store.test import make_event, make_run, make_session
from tests.cases import CommittedTestCase
from tests.databases import vendor_of
from tests.failures import SECONDS, Contest, append, driver, execute, lock, stored
from tests.threads import run_threads


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


class TestLocks:
    def test_a_lost_wait_is_tried_again(self, using: str, session: Session) -> None:
        contest = Contest(using, session, refusals=2)
        event = contest.run(lambda: append(using, session))

        assert len(contest.refused) >= 2
        assert stored(using, session) == [(event.pk, 1)]

    def test_not_when_it_is_not_wanted(self, using: str, session: Session) -> None:
        contest = Contest(using, session)
        with (
            override_settings(ASM_STORE_RETRY_SECONDS=0),
            pytest.raises(StorageError) as caught,
        ):
            contest.run(lambda: append(using, session))

        assert len(contest.refused) == 1
        assert isinstance(caught.value.__cause__, driver(using).OperationalError)
        assert repr(using) in str(caught.value)
        assert stored(using, session) == []
        assert append(using, session).sequence_number == 1

    def test_not_in_the_callers_block(self, using: str, session: Session) -> None:
        def append_in_a_block() -> None:
            with transaction.atomic(using=using):
                append(using, session)

        contest = Contest(using, session)
        with pytest.raises((StorageError, OperationalError)):  # SQLite's BEGIN may be the caller's
            contest.run(append_in_a_block)

        assert len(contest.refused) == 1
        assert stored(using, session) == []

    def test_not_in_the_callers_transaction_without_a_block(
        self, using: str, session: Session
    ) -> None:
        def append_without_autocommit() -> None:
            connections[using].set_autocommit(False)
            append(using, session)

        contest = Contest(using, session)
        with pytest.raises(StorageError):
            contest.run(append_without_autocommit)

        assert len(contest.refused) == 1
        assert stored(using, session) == []

    def test_a_deadlock_is_tried_again(self, server: str, session: Session) -> None:
        other = DatabaseSessionStore(server).save_session(make_session())
        locked = {session.pk: threading.Event(), other.pk: threading.Event()}
        attempts: list[str] = []

        def crossing(first: Session, second: Session) -> Callable[[], str]:
            def body() -> str:
                attempts.append(first.pk)
                lock(server, first)
                locked[first.pk].set()
                assert locked[second.pk].wait(SECONDS)
                lock(server, second)
                return str(first.pk)

            return lambda: transactions.write(server, body)

        done = run_threads([crossing(session, other), crossing(other, session)])

        assert done == [session.pk, other.pk]
        # The one that was chosen to give way came again; it may be back before the other goes on.
        assert len(attempts) >= 3


class TestSerializationFailures(CommittedTestCase):
    using = "postgresql"

    def test_are_tried_again(self) -> None:
        session = DatabaseSessionStore(self.using).save_session(make_session())
        attempts: list[int] = []

        def body() -> None:
            execute(self.using, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            Session.objects.using(self.using).get(pk=session.pk)
            attempts.append(1)
            if len(attempts) == 1:
                run_threads([lambda: lock(self.using, session)])
            lock(self.using, session)

        transactions.write(self.using, body)
        self.assertEqual(len(attempts), 2)


class TestCollisions:
    @pytest.mark.parametrize("joined", [False, True], ids=["alone", "in a block"])
    def test_are_tried_again_but_not_forever(
        self, using: str, session: Session, joined: bool
    ) -> None:
        attempts: list[int] = []

        def body() -> None:
            attempts.append(1)
            Session.objects.using(using).bulk_create([make_session(id=session.pk)])

        with transaction.atomic(using=using) if joined else _no_block():
            with pytest.raises(StorageError) as caught:
                transactions.write(using, body)
            assert append(using, session).sequence_number == 1

        assert len(attempts) == transactions.MAX_COLLISIONS + 1
        assert isinstance(caught.value.__cause__, driver(using).IntegrityError)
        assert len(stored(using, session)) == 1

    def test_one_that_is_over_is_no_error(self, using: str, session: Session) -> None:
        ids = iter([session.pk, "ses_free"])

        def body() -> None:
            Session.objects.using(using).bulk_create([make_session(id=next(ids))])

        transactions.write(using, body)
        assert Session.objects.using(using).filter(pk="ses_free").exists()


@contextmanager
def _no_block() -> Iterator[None]:
    yield


class TestOtherErrors:
    def test_of_the_driver_are_told_at_once(self, using: str) -> None:
        attempts: list[int] = []

        def body() -> None:
            attempts.append(1)
            execute(using, "SELECT nonsense FROM asm_sessions")

        for run in (transactions.read, transactions.write):
            with pytest.raises(StorageError, match="nonsense") as caught:
                run(using, body)
            assert type(caught.value) is StorageError
            assert isinstance(caught.value.__cause__, driver(using).Error)
        assert len(attempts) == 2

    def test_of_the_body_undo_it_and_pass(self, using: str, session: Session) -> None:
        def body() -> None:
            append(using, session)
            raise SessionNotFound("mine")

        with pytest.raises(SessionNotFound, match="mine"):
            transactions.write(using, body)
        assert stored(using, session) == []


def use_nowhere(store: DatabaseSessionStore) -> dict[str, Callable[[], Any]]:
    session = make_session()
    run = make_run(session)
    return {
        "save_session": lambda: store.save_session(session),
        "get_session": lambda: store.get_session("ses_1"),
        "update_session": lambda: store.update_session("ses_1"),
        "list_sessions": store.list_sessions,
        "delete_session": lambda: store.delete_session("ses_1"),
        "soft_delete_session": lambda: store.soft_delete_session("ses_1"),
        "restore_session": lambda: store.restore_session("ses_1"),
        "save_run": lambda: store.save_run(run),
        "get_run": lambda: store.get_run("run_1"),
        "list_runs": lambda: store.list_runs("ses_1"),
        "get_active_run": lambda: store.get_active_run("ses_1"),
        "append_event": lambda: store.append_event(make_event(session)),
        "flush": lambda: store.flush(session, run),
        "get_events": lambda: store.get_events("ses_1"),
        "get_latest_sequence": lambda: store.get_latest_sequence("ses_1"),
    }


METHODS = sorted(use_nowhere(DatabaseSessionStore("nowhere")))


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_database_is_a_configuration_mistake(method: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'nowhere' .* DATABASES has default, .*other"):
        use_nowhere(DatabaseSessionStore("nowhere"))[method]()


COMMAND = r"run `manage\.py migrate asm_store --database {}`"


class TestMissingTables:
    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_names_the_command(self, unmigrated: str, method: str) -> None:
        use = use_nowhere(DatabaseSessionStore(unmigrated))[method]
        with pytest.raises(MigrationRequired, match=COMMAND.format(unmigrated)) as caught:
            use()
        assert isinstance(caught.value.__cause__, driver(unmigrated).OperationalError)

    def test_the_command_helps(self, unmigrated: str) -> None:
        store = DatabaseSessionStore(unmigrated)
        with pytest.raises(MigrationRequired):
            store.list_sessions()
        with override_settings(MIGRATION_MODULES={}):
            call_command("migrate", "asm_store", database=unmigrated, verbosity=0)

        session = store.save_session(make_session())
        assert store.append_event_with_sequence(make_event(session)).sequence_number == 1

    def test_on_a_server(self, server: str, session: Session) -> None:
        with _elsewhere(server):
            for use in (append, stored):
                with pytest.raises(MigrationRequired, match=COMMAND.format(server)) as caught:
                    use(server, session)
                assert isinstance(caught.value.__cause__, driver(server).Error)
        assert append(server, session).sequence_number == 1


@contextmanager
def _elsewhere(server: str) -> Iterator[None]:
    """This connection sees a schema (PostgreSQL) or database (MariaDB) without any table."""
    if vendor_of(server) == "postgresql":
        empty, leave = "SET search_path = pg_catalog", "RESET search_path"
        execute(server, empty)
    else:
        name = connections[server].settings_dict["NAME"]
        execute(server, f"CREATE DATABASE `{name}_empty`")
        execute(server, f"USE `{name}_empty`")
        leave = f"DROP DATABASE `{name}_empty`"
    try:
        yield
    finally:
        execute(server, leave)
        connections[server].close()
