"""Queries on a streaming replica, by the router of docs/scaling.md; all else on the primary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError
from asm_store.handler import stores
from asm_store.maintenance import RetentionPolicy, execute
from asm_store.models import Event, Session, SessionSequence
from asm_store.queries import get_overview, get_session_stats, search_events, search_sessions
from asm_store.test import make_event, make_run, make_session
from tests.cases import require, started
from tests.databases import on_server
from tests.failures import execute as ask
from tests.resilience.conftest import Look
from tests.resilience.teams import migrate
from tests.servers.postgresql import OwnServer, Replica
from tests.servers.processes import Processes
from tests.waiting.waiters import until

PRIMARY, REPLICA = "primary", "replica"
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
TEXT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
[EXAMPLE] = re.findall(r"^```python\n(class ReadReplica:.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def servers(processes: Processes) -> tuple[OwnServer, OwnServer]:
    require("postgresql")

    def start() -> tuple[OwnServer, OwnServer]:
        primary = OwnServer(processes)
        return primary, Replica(processes, primary, "replica-to-read")

    return started(start)


@pytest.fixture
def session(servers: tuple[OwnServer, OwnServer], look: Look) -> Iterator[Session]:
    """A stored session, in a project with the router of the documentation."""
    for alias, server in zip((PRIMARY, REPLICA), servers, strict=True):
        look(on_server("postgresql", server.server), alias)
    migrate(PRIMARY)
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE, "scaling.md", "exec"), names)
    backend = "asm_store.backends.database.DatabaseSessionStore"
    entry = {"BACKEND": backend, "OPTIONS": {"using": PRIMARY}}
    # A server that takes no writes may do so soon again: whoever writes to it waits so long.
    patience = {"ASM_STORE_RETRY_SECONDS": 0.5}
    routers = [names["ReadReplica"]()]
    with override_settings(ASM_STORES={"default": entry}, DATABASE_ROUTERS=routers, **patience):
        stored = stores["default"].save_session(make_session(agent_id="reader"))
        until(lambda: is_there(stored), "the session is on the replica")
        yield stored


def is_there(session: Session) -> bool:
    """Whether the replica has it."""
    return Session.objects.using(REPLICA).filter(pk=session.pk).exists()


def statements(call: Callable[[], object]) -> tuple[int, int]:
    """How many the primary and the replica were sent."""
    with (
        CaptureQueriesContext(connections[PRIMARY]) as written,
        CaptureQueriesContext(connections[REPLICA]) as read,
    ):
        call()
    return len(written), len(read)


def test_the_replica_is_one(session: Session) -> None:
    recovering = {alias: ask(alias, "SELECT pg_is_in_recovery()") for alias in (PRIMARY, REPLICA)}
    assert recovering == {PRIMARY: [(False,)], REPLICA: [(True,)]}
    [[state]] = ask(PRIMARY, "SELECT state FROM pg_stat_replication")
    assert state == "streaming"


def test_it_answers_the_queries(session: Session) -> None:
    for query in (
        lambda: search_sessions(tags=["nobody"]),
        lambda: search_events(session_ids=[session.pk]),
        lambda: get_session_stats(session.pk),
        get_overview,
    ):
        on_primary, on_replica = statements(query)
        assert (on_primary, on_replica > 0) == (0, True)
    assert search_sessions(agent_id="reader").sessions[0]._state.db == REPLICA


def test_the_primary_takes_what_the_store_does(session: Session) -> None:
    store = stores["default"]

    def work() -> None:
        run = store.save_run(make_run(session))
        store.append_event(make_event(session, run_id=run.pk))
        with store.writer(session.pk) as writer:
            writer.write(make_event(session))
        assert len(store.get_events(session.pk)) == 2
        store.update_session(session.pk, status="completed")
        assert execute(RetentionPolicy()).errors == ()
        # What belongs to a record is read where the record was.
        assert store.get_run(run.pk).session.status == "completed"

    on_primary, on_replica = statements(work)
    assert (on_primary > 0, on_replica) == (True, 0)


def test_it_may_be_late_and_the_primary_is_not(session: Session) -> None:
    ask(REPLICA, "SELECT pg_wal_replay_pause()")
    try:
        late = stores["default"].save_session(make_session(agent_id="late"))
        assert search_sessions(agent_id="late").sessions == []
        [found] = search_sessions(agent_id="late", using=PRIMARY).sessions
        assert found.pk == late.pk
    finally:
        ask(REPLICA, "SELECT pg_wal_replay_resume()")
    until(lambda: search_sessions(agent_id="late").sessions, "the replica has caught up")


def test_a_cursor_goes_on_wherever_the_next_page_is_read(session: Session) -> None:
    later = stores["default"].save_session(make_session(agent_id="reader"))
    until(lambda: is_there(later), "the session is on the replica")
    page = search_sessions(agent_id="reader", limit=1)
    rest = search_sessions(agent_id="reader", limit=1, cursor=page.cursor, using=PRIMARY)
    assert page.sessions[0].pk == later.pk
    assert rest.sessions[0].pk != later.pk


def test_a_store_on_the_replica_says_so_and_nothing_is_lost(session: Session) -> None:
    event, wrong = make_event(session), DatabaseSessionStore(REPLICA)
    writes: list[Callable[[], object]] = [
        lambda: wrong.append_event(event),
        lambda: wrong.append_events([event, make_event(session)]),
        lambda: wrong.save_session(make_session()),
        lambda: wrong.delete_session(session.pk),
    ]
    for write in writes:
        with pytest.raises(StorageError, match="read-only"):
            write()
    stored = stores["default"].append_event_with_sequence(event)
    log = Event.objects.using(PRIMARY).of_session(session.pk)
    assert [found.pk for found in log] == [stored.pk] == [event.pk]


def test_maintenance_of_the_replica_reports_it(session: Session) -> None:
    old = stores["default"].save_session(make_session(status="completed", updated_at=LONG_AGO))
    SessionSequence.objects.using(PRIMARY).filter(pk=old.pk).update(updated_at=LONG_AGO)
    until(lambda: is_there(old), "the session is on the replica")
    report = execute(RetentionPolicy(), using=REPLICA)
    assert report.sessions_soft_deleted == 0
    assert any("read-only" in error for error in report.errors)
    assert execute(RetentionPolicy()).sessions_soft_deleted == 1
