"""The partitioned table of docs/scaling.md: the store works on it as before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import EventConflict
from asm_store.maintenance import (
    RetentionPolicy,
    hard_delete_expired_sessions,
    health_check,
    prune_session_events,
)
from asm_store.models import Event, Session
from asm_store.queries import search_events
from asm_store.test import make_event, make_run, make_session
from tests.databases import on_server
from tests.failures import execute
from tests.resilience.conftest import Look
from tests.resilience.servers import start_server
from tests.resilience.teams import migrate
from tests.servers.processes import Processes

TEXT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
[SQL] = re.findall(r"^```sql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SESSIONS, EVENTS = 12, 20


@pytest.fixture(scope="module")
def database(processes: Processes) -> dict[str, Any]:
    return on_server("postgresql", start_server("postgresql", processes).server)


@pytest.fixture
def partitioned(database: dict[str, Any], look: Look, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with events whose table has been partitioned since."""
    name = request.node.name
    execute(look(database), f'CREATE DATABASE "{name}"')
    using = look({**database, "NAME": name}, "partitioned")
    migrate(using)
    fill(using, "before")
    execute(using, SQL)
    return using


def fill(using: str, name: str) -> None:
    store = DatabaseSessionStore(using)
    for number in range(SESSIONS):
        session = store.save_session(make_session(id=f"ses_{name}_{number}"))
        run = store.save_run(make_run(session))
        store.append_events([make_event(session, run_id=run.pk) for _ in range(EVENTS)])
        store.append_event(make_event(session))


def places(using: str) -> set[str]:
    """The tables that have events."""
    found = execute(using, "SELECT DISTINCT tableoid::regclass::text FROM asm_events")
    return {name for [name] in found}


def test_all_goes_on_as_before(partitioned: str) -> None:
    store = DatabaseSessionStore(partitioned)
    fill(partitioned, "after")
    assert places(partitioned) == {f"asm_events_{n}" for n in range(4)}
    for session in Session.objects.using(partitioned):
        numbers = [event.sequence_number for event in store.get_events(session.pk)]
        assert numbers == list(range(1, EVENTS + 2))
    found = search_events(using=partitioned, order_by="timestamp_desc", limit=100).events
    assert len(found) == 100
    assert health_check(using=partitioned) == []


def test_an_id_is_stored_once(partitioned: str) -> None:
    store, [known, *_] = DatabaseSessionStore(partitioned), Event.objects.using(partitioned)[:1]
    again = make_event(known.session_id, id=known.pk)
    assert store.append_event_with_sequence(again).sequence_number == known.sequence_number
    other = store.save_session(make_session())
    for count in (1, 3):
        events = [make_event(other, id=known.pk), *(make_event(other) for _ in range(count - 1))]
        with pytest.raises(EventConflict):
            store.append_events(events)
    assert store.get_events(other.pk) == []


def test_maintenance_works_on_it(partitioned: str) -> None:
    store, policy = DatabaseSessionStore(partitioned), RetentionPolicy(max_events_per_session=5)
    assert prune_session_events("ses_before_0", policy, using=partitioned) == EVENTS - 4
    gone = store.soft_delete_session("ses_before_1").deleted_at
    Session.objects.using(partitioned).filter(deleted_at=gone).update(
        deleted_at="2025-01-01T00:00Z"
    )
    assert hard_delete_expired_sessions(policy, using=partitioned) == 1
    left = Event.objects.using(partitioned)
    assert left.count() == (SESSIONS - 1) * (EVENTS + 1) - (EVENTS - 4)
    assert health_check(using=partitioned) == []
