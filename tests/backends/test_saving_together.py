"""A flush as one statement and one after the other: what is stored and told is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from asm_store import signals
from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.postgresql import PostgreSQLOperations
from asm_store.exceptions import StoreError
from asm_store.models import Event, Run, Session, SessionSequence
from asm_store.sums import UsageMark
from asm_store.test import make_event, make_run, make_session
from tests.cases import only_on
from tests.failures import execute

LONG_AGO = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


class Given(NamedTuple):
    """A session that is stored with a run and two events, and what is flushed then."""

    store: DatabaseSessionStore
    session: Session
    run: Run
    events: list[Event]

    @classmethod
    def of(cls, using: str) -> Given:
        session = make_session(id="session", tags=["a"], context={"left": "behind"})
        run = make_run(session, id="run", provider="scripted", cost_usd=0.5)
        kept = [make_event(session, id=f"kept-{number}", run=run) for number in (1, 2)]
        store = DatabaseSessionStore(using)
        store.flush(session, run, kept)
        session.metadata, run.status, run.output = {"new": True}, "completed", {"content": "Done"}
        run.cost_usd = 0.75
        new = [make_event(session, id=f"new-{number}", run=run) for number in (1, 2, 3)]
        return cls(store, session, run, new)

    def sql(self, sql: str, *parameters: Any) -> None:
        execute(self.store.using, sql, *parameters)


def nothing(given: Given) -> None:
    """All is as it was."""


def all_new(given: Given) -> None:
    given.store.delete_session("session")


def two_stored_runs(given: Given) -> None:
    given.run.id = "another"
    for event in given.events:
        event.run_id = "another"


def cost_kept(given: Given) -> None:
    given.run.cost_usd = None


def counter_only(given: Given) -> None:
    given.sql("DELETE FROM asm_events")
    given.sql("UPDATE asm_session_sequences SET last_sequence = 0")


def no_run(given: Given) -> None:
    given.run.id = "another"
    for event in given.events:
        event.run_id = None


def deleted(given: Given) -> None:
    given.store.soft_delete_session("session")


def given_as_deleted(given: Given) -> None:
    given.session.deleted_at = timezone.now()


def another_agent(given: Given) -> None:
    given.session.agent_id = "another"


def another_beginning(given: Given) -> None:
    given.session.created_at = LONG_AGO


def another_start(given: Given) -> None:
    given.run.started_at = LONG_AGO


def old(given: Given) -> None:
    """Of an hour that may have been added up."""
    for table, column in ("sessions", "created_at"), ("runs", "started_at"):
        given.sql(f"UPDATE asm_{table} SET {column} = %s", LONG_AGO)
    given.session.created_at = given.run.started_at = LONG_AGO


def old_and_new(given: Given) -> None:
    given.store.delete_session("session")
    given.session.created_at = given.run.started_at = LONG_AGO


def run_of_another(given: Given) -> None:
    given.store.save_session(make_session(id="another"))
    given.sql("UPDATE asm_runs SET session_id = 'another'")


def counter_lost(given: Given) -> None:
    given.sql("DELETE FROM asm_session_sequences")


def session_lost(given: Given) -> None:
    """Deleted by another program, with its runs and events left."""
    given.sql("DELETE FROM asm_sessions")


def session_and_counter_lost(given: Given) -> None:
    counter_lost(given)
    session_lost(given)


def no_number_left(given: Given) -> None:
    given.sql("UPDATE asm_session_sequences SET last_sequence = %s", 2**63 - 3)


def stored_before(given: Given) -> None:
    given.events[1].id = "kept-2"


def stored_elsewhere(given: Given) -> None:
    given.store.append_event(make_event(given.store.save_session(make_session(id="b")), id="new-2"))


def with_parent(given: Given) -> None:
    given.store.save_session(make_session(id="parent"))
    given.session.parent_session_id = "parent"


def given_twice(given: Given) -> None:
    given.events.append(make_event(given.session, id="new-1"))


def no_events(given: Given) -> None:
    given.events.clear()


# In one statement, and the ones that only look like it.
TOGETHER = [nothing, all_new, two_stored_runs, cost_kept, counter_only, no_run, old_and_new, old]
OTHERWISE = [
    deleted, given_as_deleted, another_agent, another_beginning, another_start, run_of_another,
    counter_lost, session_lost, session_and_counter_lost, no_number_left, stored_before,
    stored_elsewhere, with_parent, given_twice, no_events,
]  # fmt: skip


def outcome(using: str, change: Callable[[Given], None]) -> Any:
    """What the flush gives and leaves: times that it makes are not compared."""
    given = Given.of(using)
    change(given)
    UsageMark._base_manager.using(using).all().delete()
    told: list[Any] = []
    with hearing(told):
        try:
            answer: Any = [
                (event.id, event.sequence_number)
                for event in given.store.flush(given.session, given.run, deepcopy(given.events))
            ]
        except StoreError as error:
            answer = type(error), str(error)
    found = [answer, told, *map(list, rows(using))]
    for kind in (Event, Run, Session, SessionSequence, UsageMark):
        kind._base_manager.using(using).all().delete()
    return found


def rows(using: str) -> Iterator[Any]:
    times = {"created_at", "updated_at", "started_at", "ended_at", "timestamp", "deleted_at"}
    for kind in (Session, Run, Event):
        for record in [*kind._base_manager.using(using).order_by("id")]:
            columns = record.to_dict()
            long_ago = [
                name for name in times & columns.keys() if getattr(record, name) == LONG_AGO
            ]
            yield iter([long_ago, *((n, v) for n, v in columns.items() if n not in times)])
    yield SessionSequence._base_manager.using(using).values_list("session_id", "last_sequence")
    marks = UsageMark._base_manager.using(using).order_by("begin")
    yield iter(marks.values_list("begin", flat=True).distinct())


@contextmanager
def hearing(told: list[Any]) -> Iterator[None]:
    def hear(*, signal: Any, **arguments: Any) -> None:
        for name in ("session", "run"):
            if name in arguments:
                told.append((name, arguments[name].id, arguments[name]._state.adding))
        told.extend((event.id, event.sequence_number) for event in arguments.get("events", ()))

    heard = (signals.session_saved, signals.run_saved, signals.events_appended)
    for signal in heard:
        signal.connect(hear)
    try:
        yield
    finally:
        for signal in heard:
            signal.disconnect(hear)


@only_on("postgresql")
@pytest.mark.parametrize("change", [*TOGETHER, *OTHERWISE])
def test_the_outcome_is_the_same(
    using: str, change: Callable[[Given], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = outcome(using, change)
    monkeypatch.setattr(PostgreSQLOperations, "saves_together", False)
    assert at_once == outcome(using, change)


@only_on("postgresql")
@pytest.mark.parametrize("change", TOGETHER)
def test_it_is_one_statement(using: str, change: Callable[[Given], None]) -> None:
    given = Given.of(using)
    change(given)
    with CaptureQueriesContext(connections[using]) as statements:
        given.store.flush(given.session, given.run, given.events)
    beside = [sql for sql in (each["sql"] for each in statements) if "asm_usage_marks" not in sql]
    assert [sql.split()[0] for sql in beside] == ["BEGIN", "WITH", "COPY", "COMMIT"]


@only_on("postgresql")
def test_in_the_callers_block_it_is_not(using: str) -> None:
    given = Given.of(using)
    with transaction.atomic(using=using), CaptureQueriesContext(connections[using]) as statements:
        given.store.flush(given.session, given.run, given.events)
    assert not any("AS kept" in each["sql"] for each in statements)
    assert given.store.get_latest_sequence("session") == 5


@only_on("postgresql")
def test_an_old_runs_hour_is_marked(using: str) -> None:
    given = Given.of(using)
    old(given)
    given.store.flush(given.session, given.run, given.events)
    marks = UsageMark._base_manager.using(using).values_list("begin", flat=True)
    assert set(marks) == {LONG_AGO - timedelta(minutes=8, seconds=9)}
