"""Stores and the pools of psycopg: the second half of docs/connections.md, claim by claim."""

from __future__ import annotations

import gc
import socket
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connections, transaction

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.base import Failure
from asm_store.db.postgresql import PostgreSQLOperations
from asm_store.exceptions import StorageError
from asm_store.test import make_session
from tests import web
from tests.cases import CommittedTestCase
from tests.counting import SECONDS, new_connections, pool, run_in_a_thread, ten_calls
from tests.failures import KILL, append
from tests.processes import run_processes
from tests.threads import run_threads

AT_ONCE = 10


def lose_a_thread(using: str, session_id: str) -> str | None:
    """In a child process: a thread closes nothing; the error that the next call meets."""
    with pool(using, min_size=0, max_size=1, timeout=1):
        run_in_a_thread(ten_calls, using, session_id)
        gc.collect()
        try:
            ten_calls(using, session_id)
        except StorageError as error:
            return type(error.__cause__).__name__
        return None


class PoolTestCase(CommittedTestCase):
    __test__ = False

    @pytest.fixture(autouse=True)
    def _take_rounds(self, request: pytest.FixtureRequest) -> None:
        # So many times ten calls: 10,000 in the long form.
        self.rounds = range(1_000 if request.config.getoption("--long") else 10)

    def setUp(self) -> None:
        self.session = DatabaseSessionStore(self.using).save_session(make_session())
        self.new = self.enterContext(new_connections(self.using))

    def append(self) -> None:
        append(self.using, self.session)

    def append_in_a_block(self) -> None:
        with transaction.atomic(using=self.using):
            self.append()

    def figures(self) -> dict[str, int]:
        """What the pool counts, among it: how many connections it has, and has to give."""
        wrapper: Any = connections[self.using]
        return {"requests_errors": 0, **wrapper.pool.get_stats()}

    def lose_all(self) -> set[int]:
        """Let the server end all two connections of the pool, which nobody uses."""
        self.append()
        close_old_connections()
        lost = self.new.wait_for(2)
        for number in lost:
            self.new.execute(KILL["postgresql"], number)
        return lost

    def test_a_thread_keeps_its_connection_until_it_closes_it(self) -> None:
        with pool(self.using, min_size=0, max_size=2):
            self.append()
            self.assertEqual(self.figures()["pool_available"], 0)
            for _ in self.rounds:
                ten_calls(self.using, self.session.pk)
                close_old_connections()
            self.assertEqual(self.figures()["pool_available"], 1)
            self.assertEqual(self.figures()["pool_size"], 1)
        self.new.wait_for(0)

    def test_lost_connections_are_replaced(self) -> None:
        with pool(self.using, min_size=2, max_size=2, timeout=SECONDS):
            lost = self.lose_all()
            self.append()
            self.assertTrue(self.new.wait_for(2).isdisjoint(lost))


class TestPoolOfPreparedStatements(PoolTestCase):
    __test__ = True
    using = "postgresql_other"


class TestPool(PoolTestCase):
    __test__ = True
    using = "postgresql"

    def test_requests_take_turns(self) -> None:
        url = f"/in_sync/{self.using}/{self.session.pk}"
        with pool(self.using, min_size=0, max_size=2, timeout=SECONDS):
            for _ in self.rounds[::AT_ONCE]:
                self.assertEqual(web.serve(web.get_all(url, AT_ONCE)), {200})
                self.assertLessEqual(len(self.new.now()), 2)
            self.assertEqual(self.figures()["pool_available"], self.figures()["pool_size"])
        self.new.wait_for(0)

    def test_an_exhausted_pool_is_an_error_after_its_own_timeout(self) -> None:
        store = DatabaseSessionStore(self.using)
        with pool(self.using, min_size=0, max_size=1, timeout=1):
            self.append()
            for call in (store.list_sessions, self.append):
                with self.assertRaises(StorageError) as caught:
                    run_threads([call])
                self.assertEqual(type(caught.exception.__cause__).__name__, "PoolTimeout")
            self.assertEqual(self.figures()["requests_errors"], 2)  # none was tried again
            close_old_connections()
            run_threads([self.append])

    def test_followers_keep_theirs(self) -> None:
        url = f"/following/{self.using}/{self.session.pk}"
        with pool(self.using, min_size=0, max_size=2, timeout=1):

            def one_more() -> None:
                with pytest.raises(StorageError):
                    run_threads([self.append])

            web.serve(web.get_together(url, 2, one_more))
            self.append()

    def test_a_thread_that_ends_without_closing_has_taken_its_connection_along(self) -> None:
        arguments = [self.using, self.session.pk]
        self.assertEqual(run_processes(f"{__name__}.lose_a_thread", [arguments]), ["PoolTimeout"])

    def test_a_lost_connection_fails_the_callers_block(self) -> None:
        with pool(self.using, min_size=2, max_size=2, timeout=SECONDS):
            self.lose_all()
            with self.assertRaises(StorageError):
                self.append_in_a_block()

    def test_health_checks_save_the_callers_block(self) -> None:
        with pool(self.using, checked=True, min_size=2, max_size=2, timeout=SECONDS):
            self.lose_all()
            self.append_in_a_block()

    def test_does_not_go_with_persistent_connections(self) -> None:
        with pool(self.using, min_size=0, max_size=1):
            settings = connections.settings[self.using]
            settings["CONN_MAX_AGE"] = 60
            self.addCleanup(settings.__setitem__, "CONN_MAX_AGE", 0)
            with self.assertRaisesMessage(ImproperlyConfigured, "persistent connections"):
                self.append()
            settings["CONN_MAX_AGE"] = 0


def test_a_server_that_does_not_answer_is_tried_again() -> None:
    psycopg = pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(host=host, port=port, connect_timeout=2)
    operations = PostgreSQLOperations(connections["default"])
    assert operations.classify(caught.value) is Failure.CONNECTION
