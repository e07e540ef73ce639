"""What users meet who test their code with Django's test cases: docs/testing.md, claim by claim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections, transaction
from django.test import SimpleTestCase, TestCase, override_settings

from asm_store import default_store, signals, stores
from asm_store.backends import transactions
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import (
    EventConflict,
    RunNotFound,
    SequenceConflict,
    SessionDeleted,
    SessionNotFound,
    StorageError,
    StoreError,
    ValidationError,
)
from asm_store.models import Event, Session
from asm_store.test import make_event, make_run, make_session
from asm_store.test.contract.signals import heard
from tests.cases import require
from tests.databases import vendor_of
from tests.failures import IMPATIENT, append, execute, stored
from tests.processes import run_processes
from tests.threads import run_threads

T = TypeVar("T")


def impatiently(using: str, call: Callable[[], T]) -> T:
    """The call in another thread, whose connection does not wait for the test's locks."""

    def run() -> T:
        execute(using, IMPATIENT[vendor_of(using)])
        return call()

    with override_settings(ASM_STORE_RETRY_SECONDS=0):
        return run_threads([run])[0]


class InTestCase(TestCase):
    """Every test of a `TestCase` is one block, which is rolled back."""

    using: ClassVar[str]
    __test__ = False
    store: DatabaseSessionStore
    session: Session
    first: Event

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.databases = {cls.using}
        cls.__test__ = True

    @classmethod
    def setUpClass(cls) -> None:
        require(cls.using)
        super().setUpClass()

    @classmethod
    def setUpTestData(cls) -> None:
        cls.store = DatabaseSessionStore(cls.using)
        cls.session = cls.store.save_session(make_session(tags=["of the class"]))
        cls.first = append(cls.using, cls.session)

    def test_starts_with_the_data_of_the_class(self) -> None:
        self.change_all()

    def test_starts_with_the_data_of_the_class_again(self) -> None:
        self.change_all()

    def change_all(self) -> None:
        self.assertEqual(self.store.list_sessions(), [self.session])
        self.assertEqual(self.store.get_session(self.session.pk).tags, ["of the class"])
        self.assertEqual(self.session.tags, ["of the class"])
        self.session.tags.append("of one test")
        self.store.save_session(self.session)
        self.assertEqual(append(self.using, self.session).sequence_number, 2)
        self.store.save_session(make_session())

    def test_sends_no_signals(self) -> None:
        with (
            heard(signals.session_saved) as saved,
            heard(signals.run_saved) as runs,
            heard(signals.session_deleted) as deleted,
            heard(signals.events_appended) as appended,
            self.assertNoLogs("asm_store", "DEBUG"),
        ):
            self.use_everything()
        self.assertEqual((saved, runs, deleted, appended), ([], [], [], []))

    def test_sends_signals_where_callbacks_are_executed(self) -> None:
        with (
            heard(signals.session_saved) as saved,
            heard(signals.run_saved) as runs,
            heard(signals.session_deleted) as deleted,
            heard(signals.events_appended) as appended,
            self.assertLogs("asm_store", "DEBUG") as logs,
            self.captureOnCommitCallbacks(using=self.using, execute=True) as callbacks,
        ):
            self.use_everything()
            self.assertEqual((saved, runs, deleted, appended), ([], [], [], []))
        self.assertEqual(len(callbacks), 4)
        self.assertEqual((len(saved), len(runs), len(deleted), len(appended)), (1, 1, 1, 1))
        self.assertEqual(len(logs.records), 4)

    def use_everything(self) -> None:
        session = self.store.save_session(make_session())
        run = self.store.save_run(make_run(session))
        self.store.append_event(make_event(session, run_id=run.pk))
        self.store.delete_session(session.pk)

    def test_executes_what_receivers_write(self) -> None:
        def answer(events: list[Event], **kwargs: Any) -> None:
            if events[0].sequence_number < 4:
                append(self.using, self.session)

        signals.events_appended.connect(answer)
        self.addCleanup(signals.events_appended.disconnect, answer)
        with self.captureOnCommitCallbacks(using=self.using, execute=True) as callbacks:
            append(self.using, self.session)
        self.assertEqual(len(callbacks), 3)
        self.assertEqual(self.store.get_latest_sequence(self.session.pk), 4)

    def test_goes_on_after_an_error(self) -> None:
        other = self.store.save_session(make_session())
        gone = self.store.soft_delete_session(self.store.save_session(make_session()).pk)
        refusals: list[tuple[type[StoreError], Callable[[], Any]]] = [
            (SessionNotFound, lambda: self.store.get_session("ses_missing")),
            (SessionNotFound, lambda: self.store.append_event(make_event("ses_missing"))),
            (SessionDeleted, lambda: append(self.using, gone)),
            (EventConflict, lambda: self.store.append_event(make_event(other, id=self.first.pk))),
            (RunNotFound, lambda: self.store.append_event(make_event(other, run_id="run_missing"))),
            (SequenceConflict, lambda: self.append_expecting(7)),
            (ValidationError, lambda: self.store.append_event(make_event(other, data={"n": {1}}))),
            (StorageError, lambda: transactions.write(self.using, self.fail_in_sql)),
        ]
        for number, (error, call) in enumerate(refusals, 2):
            with self.subTest(error=error.__name__, number=number):
                with self.assertRaises(error):
                    call()
                self.assertEqual(append(self.using, self.session).sequence_number, number)

    def fail_in_sql(self) -> None:
        self.store.save_session(make_session())
        execute(self.using, "nonsense")

    def append_expecting(self, number: int) -> None:
        self.store.append_events([make_event(self.session)], expected_sequence=number)

    def test_is_not_seen_by_threads(self) -> None:
        with self.assertRaises(SessionNotFound):
            run_threads([lambda: self.store.get_session(self.session.pk)])
        self.assertEqual(run_threads([lambda: stored(self.using, self.session)]), [[]])

    def test_threads_cannot_write_to_it(self) -> None:
        append(self.using, self.session)
        # PostgreSQL does not see the session; the others wait for the test to end.
        expected = SessionNotFound if vendor_of(self.using) == "postgresql" else StorageError
        with self.assertRaises(expected):
            impatiently(self.using, lambda: append(self.using, self.session))
        self.assertEqual(append(self.using, self.session).sequence_number, 3)

    async def test_async_methods_join_it(self) -> None:
        event = await self.store.aappend_event_with_sequence(make_event(self.session))
        self.assertEqual(event.sequence_number, 2)
        await asyncio.gather(
            *(self.store.aappend_event(make_event(self.session)) for _ in range(3))
        )
        self.assertEqual(len(await self.store.aget_events(self.session.pk)), 5)
        with self.assertRaises(SessionNotFound):
            await self.store.aappend_event(make_event("ses_missing"))
        self.assertEqual(await self.store.aget_latest_sequence(self.session.pk), 5)

    def test_a_writer_stores_in_the_tests_own_thread(self) -> None:
        with self.store.writer(self.session.pk, max_events=2, max_delay=60) as writer:
            for stored_then in (1, 3, 3, 5, 5):
                writer.write(make_event(self.session))
                self.assertEqual(self.store.get_latest_sequence(self.session.pk), stored_then)
        self.assertEqual(self.store.get_latest_sequence(self.session.pk), 6)

    async def test_an_async_writer_joins_it(self) -> None:
        async with self.store.awriter(self.session.pk, max_events=2) as writer:
            for _ in range(5):
                await writer.write(make_event(self.session))
        self.assertEqual(await self.store.aget_latest_sequence(self.session.pk), 6)

    def test_who_waits_in_it_needs_a_timeout_or_an_ended_session(self) -> None:
        key = self.session.pk
        self.assertEqual(self.store.get_events(key, after=1, wait_timeout=0.01), [])
        self.assertEqual(list(self.store.stream_events(key, idle_timeout=0.01)), [self.first])
        self.store.update_session(key, status="completed")
        self.assertEqual(list(self.store.stream_events(key)), [self.first])

    def test_an_event_loop_of_ones_own_does_not_see_it(self) -> None:
        async def seen() -> list[Event]:
            try:
                return await self.store.aget_events(self.session.pk)
            finally:
                await sync_to_async(connections.close_all)()

        self.assertEqual(asyncio.run(seen()), [])

    def test_only_its_databases_may_be_used(self) -> None:
        forbidden = "other" if self.using == "default" else "default"
        with self.assertRaisesMessage(AssertionError, f"queries to '{forbidden}' are not allowed"):
            DatabaseSessionStore(forbidden).list_sessions()


class DefaultTests(InTestCase):
    using = "default"


class OtherTests(InTestCase):
    using = "other"


class PostgresqlTests(InTestCase):
    using = "postgresql"


class PostgresqlOtherTests(InTestCase):
    using = "postgresql_other"


class MysqlTests(InTestCase):
    using = "mysql"


class MysqlOtherTests(InTestCase):
    using = "mysql_other"


def use_in_memory() -> list[list[Any]]:
    """In a child process, since Django never closes such connections: what threads meet."""
    name = "file:memorydb_default?mode=memory&cache=shared"  # as Django makes it for tests
    using = "in_memory"
    connections.settings[using] = {**connections.settings["default"], "NAME": name, "OPTIONS": {}}
    with override_settings(MIGRATION_MODULES={}):
        call_command("migrate", "asm_store", database=using, verbosity=0)
    store = DatabaseSessionStore(using)
    with transaction.atomic(using=using):
        session = store.save_session(make_session())
        in_a_block = [error_in_thread(store.list_sessions), error_in_thread(append, using, session)]
    outside = run_threads([lambda: append(using, session)] * 4)
    return [in_a_block, sorted(event.sequence_number for event in outside)]


def error_in_thread(call: Callable[..., Any], *arguments: Any) -> str | None:
    try:
        with override_settings(ASM_STORE_RETRY_SECONDS=0.1):
            run_threads([lambda: call(*arguments)])
    except StorageError as error:
        return str(error)
    return None


def test_threads_and_sqlite_in_memory() -> None:
    [[in_a_block, outside]] = run_processes(f"{__name__}.use_in_memory", [[]])

    # As long as the test's block has written, they cannot even read.
    assert ["locked" in str(error) for error in in_a_block] == [True, True]
    assert outside == [1, 2, 3, 4]


class TestWithRealCommits:
    """`TransactionTestCase`, and `transactional_db` of pytest-django."""

    def test_signals_are_sent_at_once(self, using: str) -> None:
        with heard(signals.session_saved) as saved, heard(signals.events_appended) as appended:
            session = DatabaseSessionStore(using).save_session(make_session())
            append(using, session)
            assert (len(saved), len(appended)) == (1, 1)

    def test_threads_and_event_loops_see_and_write(self, using: str) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())

        async def append_in_a_task() -> None:
            await store.aappend_event(make_event(session))
            await sync_to_async(connections.close_all)()

        run_threads([lambda: append(using, session)] * 2)
        asyncio.run(append_in_a_task())

        assert store.get_latest_sequence(session.pk) == 3


class TestPytestDjango:
    @pytest.mark.usefixtures("db")
    @pytest.mark.parametrize("repetition", [1, 2])
    def test_db_is_a_testcase(
        self, repetition: int, django_capture_on_commit_callbacks: Any
    ) -> None:
        with heard(signals.session_saved) as saved:
            default_store.save_session(make_session())
            assert saved == []
            with django_capture_on_commit_callbacks(execute=True):
                session = default_store.save_session(make_session())
        assert [call["session"] for call in saved] == [session]
        assert len(default_store.list_sessions()) == 2

    @pytest.mark.usefixtures("transactional_db")
    @pytest.mark.parametrize("repetition", [1, 2])
    def test_transactional_db_commits(self, repetition: int) -> None:
        session = default_store.save_session(make_session())
        assert run_threads([default_store.list_sessions]) == [[session]]


class MemoryTests(SimpleTestCase):
    """No database at all: Django forbids it here."""

    def setUp(self) -> None:
        stores["default"] = InMemorySessionStore()
        self.addCleanup(stores.__delitem__, "default")

    def test_every_test_has_a_store_of_its_own(self) -> None:
        self.use_default_store()

    def test_every_test_has_a_store_of_its_own_again(self) -> None:
        self.use_default_store()

    def use_default_store(self) -> None:
        self.assertEqual(default_store.list_sessions(), [])
        session = default_store.save_session(make_session())
        with heard(signals.events_appended) as appended:
            default_store.append_event(make_event(session))
        self.assertEqual(len(appended), 1)
        self.assertEqual(stores["default"].get_latest_sequence(session.pk), 1)

    async def test_async_methods_have_it_too(self) -> None:
        self.assertEqual(await default_store.alist_sessions(), [])
        session = await default_store.asave_session(make_session())
        await asyncio.gather(*(default_store.aappend_event(make_event(session)) for _ in range(3)))
        self.assertEqual(await default_store.aget_latest_sequence(session.pk), 3)

    def test_other_threads_do_not_have_it(self) -> None:
        self.assertEqual(run_threads([lambda: stores["default"] is default_store]), [False])
        self.assertEqual(run_threads([lambda: type(stores["default"])]), [DatabaseSessionStore])


IN_MEMORY = {"default": {"BACKEND": "asm_store.backends.memory.InMemorySessionStore"}}


class SharedMemoryTests(SimpleTestCase):
    def test_data_of_an_alias_outlive_a_test(self) -> None:
        with override_settings(ASM_STORES=IN_MEMORY):
            session = default_store.save_session(make_session())
            self.assertEqual(run_threads([default_store.list_sessions]), [[session]])
        with override_settings(ASM_STORES=IN_MEMORY):
            self.assertEqual(default_store.list_sessions(), [session])
            default_store.delete_session(session.pk)
            self.assertEqual(default_store.list_sessions(), [])
