"""How many connections stores open, and leave open: docs/connections.md, claim by claim."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error as DriverError
from django.db import close_old_connections, connections, transaction

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.models import Session
from asm_store.test import make_event, make_session
from tests import web
from tests.counting import (
    SECONDS,
    NewConnections,
    aten_calls,
    new_connections,
    run_in_a_thread,
    ten_calls,
    without_garbage_collection,
)
from tests.failures import append, kill_connection
from tests.processes import run_processes
from tests.threads import run_threads

AT_ONCE = 5


@pytest.fixture
def session(using: str) -> Session:
    return DatabaseSessionStore(using).save_session(make_session())


@pytest.fixture
def new(using: str, session: Session) -> Iterator[NewConnections]:
    with new_connections(using) as new:
        yield new


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> range:
    """So many times ten calls: 10,000 in the long form."""
    return range(1_000 if request.config.getoption("--long") else 10)


class TestAsync:
    def test_event_loops_share_one_thread_and_its_connection(
        self, using: str, session: Session, new: NewConnections, rounds: range
    ) -> None:
        async def main() -> set[Any]:
            await asyncio.gather(*(aten_calls(using, session.pk) for _ in rounds))
            return new.now()

        async def close() -> None:
            await sync_to_async(connections.close_all)()

        first, second = asyncio.run(main()), asyncio.run(main())
        assert (len(first), second) == (1, first)
        asyncio.run(close())
        new.wait_for(0)

    def test_async_to_sync_uses_the_callers_connection(
        self, using: str, session: Session, new: NewConnections, rounds: range
    ) -> None:
        async def main() -> set[Any]:
            await asyncio.gather(*(aten_calls(using, session.pk) for _ in rounds))
            return new.now()

        ten_calls(using, session.pk)
        callers = new.wait_for(1)
        assert async_to_sync(main)() == callers


class TestRequests:
    @pytest.mark.parametrize("view", ["lasting", "following"])
    def test_each_has_one_connection_until_it_ends(
        self, using: str, session: Session, new: NewConnections, rounds: range, view: str
    ) -> None:
        url = f"/{view}/{using}/{session.pk}"
        for _ in rounds[::AT_ONCE]:
            web.serve(web.get_together(url, AT_ONCE, lambda: new.wait_for(AT_ONCE)))
            new.wait_for(0)

    @pytest.mark.parametrize(("view", "status"), [("in_sync", 200), ("failing", 500)])
    def test_however_it_ends(
        self, using: str, session: Session, new: NewConnections, view: str, status: int
    ) -> None:
        url = f"/{view}/{using}/{session.pk}"
        assert web.serve(web.get_all(url, AT_ONCE)) == {status}
        new.wait_for(0)

    def test_of_wsgi_close_theirs_too(
        self, using: str, session: Session, new: NewConnections, rounds: range
    ) -> None:
        urls = [f"/in_sync/{using}/{session.pk}" for _ in rounds]
        assert web.serve_by_wsgi(urls, AT_ONCE, lambda: new.wait_for(0)) == {200}


class TestThreads:
    def test_each_has_one(self, using: str, session: Session, new: NewConnections) -> None:
        together = threading.Barrier(AT_ONCE)
        counts: list[int] = []

        def work() -> None:
            ten_calls(using, session.pk)
            if together.wait(SECONDS) == 0:
                counts.append(len(new.wait_for(AT_ONCE)))
            together.wait(SECONDS)

        run_threads([work] * AT_ONCE)
        assert counts == [AT_ONCE]
        new.wait_for(0)

    def test_that_close_theirs_leave_nothing(
        self, using: str, session: Session, new: NewConnections, rounds: range
    ) -> None:
        def work() -> None:
            try:
                ten_calls(using, session.pk)
            finally:
                connections.close_all()

        for _ in rounds:
            run_in_a_thread(work)
            new.wait_for(0)

    def test_of_writers_close_theirs(
        self, using: str, session: Session, new: NewConnections, rounds: range
    ) -> None:
        store = DatabaseSessionStore(using)
        for _ in rounds:
            with store.writer(session.pk, max_events=5) as writer:
                for _ in range(10):
                    writer.write(make_event(session))
                writer.flush()
                assert len(new.now()) <= 2
            connections[using].close()
            new.wait_for(0)


class TestMaxAge:
    @pytest.mark.parametrize("age", [0, 60, None])
    def test_django_closes_what_is_old_and_stores_close_nothing(
        self,
        using: str,
        session: Session,
        new: NewConnections,
        age: int | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(connections.settings[using], "CONN_MAX_AGE", age)

        def work() -> None:
            ten_calls(using, session.pk)
            kept = new.wait_for(1)
            ten_calls(using, session.pk)
            assert new.now() == kept
            close_old_connections()  # as before and after each request
            assert new.wait_for(0 if age == 0 else 1) <= kept
            ten_calls(using, session.pk)
            assert len(new.now()) == 1

        run_threads([work])
        new.wait_for(0)

    @pytest.mark.parametrize("checked", [True, False])
    def test_health_checks_save_the_callers_block(
        self, server: str, session: Session, checked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connections.settings[server], "CONN_MAX_AGE", None)
        monkeypatch.setitem(connections.settings[server], "CONN_HEALTH_CHECKS", checked)
        outcomes: list[str] = []

        def request() -> None:
            close_old_connections()
            with transaction.atomic(using=server):
                append(server, session)

        def work() -> None:
            request()
            kill_connection(server)
            try:
                request()
                outcomes.append("saved")
            except (StorageError, DriverError):
                outcomes.append("lost")

        run_threads([work])
        assert outcomes == ["saved" if checked else "lost"]


# In a process of its own: what is not closed would disturb later tests.


def count_unclosed() -> dict[str, list[int]]:
    """By alias: how many connections some threads leave open, and how many some requests."""
    return {alias: list(_count_unclosed(alias)) for alias in connections}


def _count_unclosed(using: str) -> Iterator[int]:
    connections.settings[using]["CONN_MAX_AGE"] = 60
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session())
    with new_connections(using) as new:
        for leave_open in (run_threads_that_close_nothing, run_requests):
            with without_garbage_collection():
                leave_open(using, session.pk)
                yield len(new.now())
            gc.collect()
            new.wait_for(0)
    store.delete_session(session.pk)


def run_threads_that_close_nothing(using: str, session_id: str) -> None:
    for _ in range(AT_ONCE):
        run_in_a_thread(ten_calls, using, session_id)


def run_requests(using: str, session_id: str) -> None:
    web.serve(web.get_all(f"/in_sync/{using}/{session_id}", AT_ONCE))


@pytest.mark.usefixtures("django_db_setup")
def test_what_nobody_closes_stays_until_garbage_is_collected() -> None:
    """Connections of threads, and with CONN_MAX_AGE those of ASGI requests."""
    [counts] = run_processes(f"{__name__}.count_unclosed", [[]])
    assert counts == {alias: [AT_ONCE, AT_ONCE] for alias in connections}
