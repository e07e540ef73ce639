"""What readers cost, and what they make of rows that others wrote."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from asm_store.backends.arguments import EventFilter
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_event, make_session
from asm_store.waiting import drive
from tests.cases import only_on
from tests.databases import vendor_of
from tests.failures import execute


def peak(lines: Iterator[object]) -> int:
    """The most memory that Python had allocated while the lines passed by, in bytes."""
    tracemalloc.start()
    try:
        for _line in lines:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fill(store: DatabaseSessionStore, count: int, data: dict[str, object]) -> Session:
    session = store.save_session(make_session())
    for start in range(0, count, 1000):
        size = min(1000, count - start)
        store.append_events([make_event(session, data=data) for _ in range(size)])
    return session


def test_lines_of_a_long_session_need_no_more_memory(using: str) -> None:
    store = DatabaseSessionStore(using)
    short, long = (fill(store, count, {"content": "x" * 500}) for count in (2_500, 5_000))
    peak(store.iter_events_json(short.pk))  # what is cached once, is cached now
    assert peak(store.iter_events_json(long.pk)) < 1.2 * peak(store.iter_events_json(short.pk))


def test_large_lines_need_little_memory(using: str) -> None:
    store = DatabaseSessionStore(using)
    session = fill(store, 20, {"content": "x"})
    size = 1_000_000
    for _ in range(40):
        store.append_event(make_event(session, data={"content": "x" * size}))
    # The first page is as long as ever; a line is in memory as columns, as text and as bytes.
    assert peak(store.iter_events_json(session.pk)) < 60 * size


def test_live_lines_need_still_less(using: str) -> None:
    store = DatabaseSessionStore(using)
    size = 1_000_000
    session = fill(store, 20, {"content": "x" * size})
    wanted = EventFilter(session_id=session.pk)
    assert peak(drive(store._live_lines(wanted))) < 20 * size


def test_the_lines_of_a_short_session_are_one_query(using: str) -> None:
    store = DatabaseSessionStore(using)
    session = fill(store, 31, {"content": "x"})
    with CaptureQueriesContext(connections[using]) as queries:
        assert len(list(store.iter_events_json(session.pk))) == 31
    assert len(queries) == 1


def test_what_is_loaded_is_as_django_loads_it(using: str) -> None:
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session(tags=["a"], metadata={"b": [1]}))
    store.append_event(make_event(session))
    loaded: list[Event] = []

    def hears(instance: Event, **_: Any) -> None:
        loaded.append(instance)

    [fast] = store.get_events(session.pk)
    post_init.connect(hears, sender=Event)
    try:
        [heard] = store.get_events(session.pk)
    finally:
        post_init.disconnect(hears, sender=Event)

    assert loaded == [heard]
    states = [vars(event).pop("_state") for event in (fast, heard)]
    assert vars(fast) == vars(heard)
    assert [(state.adding, state.db) for state in states] == [(False, using)] * 2
    part = Event.objects.using(using).only("type").get(pk=heard.pk)
    assert part.get_deferred_fields() >= {"data", "metadata"}
    assert part.data == heard.data  # loaded when it is asked for


def test_a_line_break_between_values_stays_out_of_the_line(using: str) -> None:
    if vendor_of(using) == "postgresql":
        pytest.skip("PostgreSQL keeps no white space of JSON")
    store = DatabaseSessionStore(using)
    session = fill(store, 1, {})
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE asm_events SET data = %s", ['{\n"a":\r\n [1,\n2]}'])
    [line] = store.iter_events_json(session.pk)
    assert line.count(b"\n") == 1
    assert json.loads(line)["data"] == {"a": [1, 2]}


def test_lines_are_in_utc_whatever_the_zone_of_the_database(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DatabaseSessionStore(using)
    with differing(using, monkeypatch, "TIME_ZONE", "Asia/Tokyo"):
        session = fill(store, 2, {})
        expected = [event.to_dict() for event in store.get_events(session.pk)]
        lines = list(store.iter_events_json(session.pk))
    assert [json.loads(line) for line in lines] == expected


def test_a_writer_without_autocommit_leaves_the_commit_to_its_caller(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DatabaseSessionStore(server)
    session = store.save_session(make_session())
    for commit, count in ((False, 0), (True, 3)):
        with differing(server, monkeypatch, "AUTOCOMMIT", False):
            with store.writer(session.pk, max_events=2, max_delay=0) as writer:
                for _ in range(3):
                    writer.write(make_event(session))
            if commit:
                connections[server].commit()
        assert store.get_latest_sequence(session.pk) == count


@contextmanager
def differing(
    using: str, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> Iterator[None]:
    """This thread's connection has another setting than DATABASES says, in the block."""
    connection: Any = connections[using]

    def forget() -> None:
        connection.close()
        for cached in ("timezone", "timezone_name"):
            connection.__dict__.pop(cached, None)

    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, name, value)
        forget()
        yield
        if not connection.get_autocommit():
            connection.rollback()
        connection.close()
    forget()


@only_on("postgresql")
def test_a_reader_without_a_limit_is_planned_for_a_tenth_of_the_rows(using: str) -> None:
    """What PostgreSQL does with a limit that it does not know; without one it takes all for wanted.

    https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/optimizer/plan/planner.c
    (`preprocess_limit`)
    """
    store = DatabaseSessionStore(using)
    session = fill(store, 500, {"content": "x"})
    execute(using, "ANALYZE asm_events")
    with CaptureQueriesContext(connections[using]) as queries:
        assert len(store.get_events(session.pk)) == 500
    [read] = queries
    [[[plan]]] = execute(using, f"EXPLAIN (FORMAT JSON) {read['sql']}")
    assert (plan["Plan"]["Node Type"], plan["Plan"]["Plan Rows"]) == ("Limit", 50)
