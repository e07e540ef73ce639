"""The indexes: what each database says that it has, and which queries it uses them for."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import connections, models
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.filters import UsageFilterSet
from asm_store.models import Event, Run
from asm_store.queries.coverage import Coverage
from asm_store.queries.top_sessions import Ranking
from asm_store.sums import SessionSum
from asm_store.test.factories import make_event, make_run, make_session
from tests.cases import with_access

MODELS: list[type[models.Model]] = list(apps.get_app_config("asm_store").get_models())
TABLES = [model._meta.db_table for model in MODELS]
PRIMARY = "primary key"


@dataclass(frozen=True, slots=True)
class Index:
    name: str
    columns: tuple[str, ...]
    unique: bool = False
    partial: bool = False


# All that an append to asm_events has to keep up to date. `partial` where the database can.
EVENT_INDEXES = [
    Index(PRIMARY, ("id",), unique=True),
    Index("asm_events_session_sequence", ("session_id", "sequence_number"), unique=True),
    Index("asm_events_run", ("run_id", "sequence_number"), partial=True),
    Index("asm_events_correlation", ("correlation_id", "timestamp", "id"), partial=True),
    Index("asm_events_timestamp", ("timestamp", "id")),
]

BUSY, RUN, CALL = "ses_busy", "run_07", "call_7"
START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(seconds=2_950)


def store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using)


def events(using: str) -> models.QuerySet[Event]:
    return Event.objects.using(using)


# The index that each query needs: without it the whole table would be read or sorted.
NEEDS: dict[str, tuple[str, Callable[[str], object]]] = {
    "an append looks for its id": (
        PRIMARY,
        lambda using: store(using).append_events([make_event(BUSY)] * 2),
    ),
    "a batch looks for its ids": (
        PRIMARY,
        lambda using: store(using).append_events([make_event(BUSY) for _ in range(20)] * 2),
    ),
    "a session's first events": (
        "asm_events_session_sequence",
        lambda using: store(using).get_events(BUSY, limit=50),
    ),
    "a session's events after a number": (
        "asm_events_session_sequence",
        lambda using: store(using).get_events(BUSY, after=500, limit=50),
    ),
    "a session's events before a number": (
        "asm_events_session_sequence",
        lambda using: store(using).get_events(BUSY, before=20),
    ),
    "a session's latest event": (
        "asm_events_session_sequence",
        lambda using: events(using).filter(session_id=BUSY).order_by("-sequence_number").first(),
    ),
    "a run's events in a long session": (
        "asm_events_run",
        lambda using: store(using).get_events(BUSY, run_id=RUN),
    ),
    "a run's events": (
        "asm_events_run",
        lambda using: list(events(using).filter(run_id=RUN).order_by("sequence_number")),
    ),
    "a correlation id's events by time": (
        "asm_events_correlation",
        lambda using: list(
            events(using).filter(correlation_id=CALL).order_by("timestamp", "id")[:20]
        ),
    ),
    "the latest events of all": (
        "asm_events_timestamp",
        lambda using: list(events(using).order_by("-timestamp", "-id")[:20]),
    ),
    "the events of all since a time": (
        "asm_events_timestamp",
        lambda using: list(
            events(using).filter(timestamp__gte=LATER).order_by("timestamp", "id")[:20]
        ),
    ),
}


def rows(using: str, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        # With no parameters at all, a % in the statement is only a %.
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


# What indexes there are: (name, columns, unique, primary, partial), from the system's own tables.

Described = tuple[str, tuple[str, ...], bool, bool, bool]


def _sqlite_indexes(using: str, table: str) -> Iterator[Described]:
    found = rows(using, 'SELECT name, "unique", origin, partial FROM pragma_index_list(%s)', table)
    for name, unique, origin, partial in found:
        columns = rows(using, "SELECT name FROM pragma_index_info(%s) ORDER BY seqno", name)
        yield name, tuple(column for (column,) in columns), unique, origin == "pk", partial


def _postgresql_indexes(using: str, table: str) -> Iterator[Described]:
    sql = """
        SELECT class.relname, indisunique, indisprimary, indpred IS NOT NULL, ARRAY(
            SELECT coalesce(attname, 'expression')
                   || CASE WHEN opcdefault THEN '' ELSE ' ' || opcname END
            FROM unnest(indkey, indclass) WITH ORDINALITY AS part (number, class, place)
            JOIN pg_opclass ON pg_opclass.oid = part.class
            LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = number
            ORDER BY place
        )
        FROM pg_index JOIN pg_class AS class ON class.oid = indexrelid
        WHERE indrelid = %s::regclass
    """
    for name, unique, primary, partial, columns in rows(using, sql, table):
        yield name, tuple(columns), unique, primary, partial


def _mysql_indexes(using: str, table: str) -> Iterator[Described]:
    sql = """
        SELECT index_name, non_unique, column_name, sub_part FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = %s ORDER BY index_name, seq_in_index
    """
    for name, parts in itertools.groupby(rows(using, sql, table), lambda row: row[0]):
        [*listed] = parts
        columns = [f"{column}({part})" if part else column for _, _, column, part in listed]
        yield name, tuple(columns), not listed[0][1], name == "PRIMARY", False


_DESCRIBE = {
    "sqlite": _sqlite_indexes,
    "postgresql": _postgresql_indexes,
    "mysql": _mysql_indexes,
}


def indexes(using: str, table: str) -> dict[str, Index]:
    """The table's indexes by the name that the database has for them."""
    described = _DESCRIBE[connections[using].vendor](using, table)
    return {
        name: Index(
            PRIMARY if primary else _constraint(using, table, name, columns),
            columns,
            bool(unique),
            bool(partial),
        )
        for name, columns, unique, primary, partial in described
    }


def _constraint(using: str, table: str, name: str, columns: Sequence[str]) -> str:
    """SQLite does not give an index the name of its constraint, which is the one that counts."""
    if not name.startswith("sqlite_autoindex"):
        return name
    with connections[using].cursor() as cursor:
        constraints = connections[using].introspection.get_constraints(cursor, table)
    [found] = [
        name
        for name, constraint in constraints.items()
        if constraint["unique"] and constraint["columns"] == list(columns)
    ]
    return found


def test_the_events_have_these_indexes_and_no_other(using: str) -> None:
    partial = connections[using].features.supports_partial_indexes
    wanted = [replace(index, partial=index.partial and partial) for index in EVENT_INDEXES]
    found = indexes(using, "asm_events").values()
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_every_index_of_the_events_has_a_query_that_needs_it() -> None:
    assert {index.name for index in EVENT_INDEXES} == {index for index, _ in NEEDS.values()}


def test_partial_indexes_are_whole_ones_only_where_there_are_no_partial_ones(using: str) -> None:
    nullable = {
        "asm_artifacts_deleted": "deleted_at",
        "asm_artifacts_run": "run_id",
        "asm_artifacts_session": "session_id",
        "asm_events_correlation": "correlation_id",
        "asm_events_run": "run_id",
        "asm_sessions_deleted": "deleted_at",
        "asm_sessions_parent": "parent_session_id",
    }
    found = {index.name: index for table in TABLES for index in indexes(using, table).values()}
    assert {name: found[name].columns[0] for name in nullable} == nullable
    partial = {index.name for index in found.values() if index.partial}
    mysql = connections[using].vendor == "mysql"
    assert partial == (set() if mysql else set(nullable))


@pytest.mark.parametrize("table", TABLES)
def test_no_index_is_the_beginning_of_another(using: str, table: str) -> None:
    found = indexes(using, table).values()
    superfluous = [
        f"{short.name} beside {long.name}"
        for short, long in itertools.permutations(found, 2)
        if short.columns == long.columns[: len(short.columns)] and long.partial <= short.partial
    ]
    assert found
    assert superfluous == []


@pytest.mark.parametrize("model", MODELS)
def test_every_reference_leads_an_index(using: str, model: type[models.Model]) -> None:
    references = {field.column for field in model._meta.concrete_fields if field.is_relation}
    leading = {index.columns[0] for index in indexes(using, model._meta.db_table).values()}
    assert references <= leading


@pytest.mark.parametrize("model", MODELS)
def test_indexes_are_of_whole_columns_in_their_own_order(
    using: str, model: type[models.Model]
) -> None:
    """No prefixes, no expressions, no `varchar_pattern_ops`, which only LIKE would use.

    Apart from PostgreSQL's index of tags, which is of what is in the column.
    """
    columns = {field.column for field in model._meta.concrete_fields} | {"tags jsonb_path_ops"}
    found = indexes(using, model._meta.db_table).values()
    assert {column for index in found for column in index.columns} <= columns
    assert [index.name for index in found if index.name.endswith("_like")] == []


# Which indexes the queries use: the statements that a query really sends, explained.


def fill(using: str) -> None:
    """One long session of many runs among short ones; events of one second each."""
    sessions = [BUSY, *(f"ses_{number:02}" for number in range(20))]
    runs = [make_run(BUSY, id=f"run_{number:02}") for number in range(50)]
    for session in sessions:
        store(using).save_session(make_session(id=session))
    for run in runs:
        store(using).save_run(run)
    seconds = itertools.count()
    for session in sessions:
        store(using).append_events(
            [
                make_event(
                    session,
                    timestamp=START + timedelta(seconds=next(seconds)),
                    run_id=runs[number % 50].pk if session == BUSY else None,
                    correlation_id=f"call_{number // 5}" if number < 100 else None,
                )
                for number in range(1_000 if session == BUSY else 100)
            ]
        )
    if sql := {"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE"}.get(connections[using].vendor):
        for table in TABLES:
            with connections[using].cursor() as cursor:
                cursor.execute(f"{sql} {table}")


def sent(using: str, query: Callable[[str], object]) -> str:
    """The first SELECT from asm_events that `query` sends, with its values in it."""
    with CaptureQueriesContext(connections[using]) as captured:
        query(using)
    statements = (entry["sql"] for entry in captured)
    return next(sql for sql in statements if re.match(r"SELECT .* FROM .asm_events. ", sql))


def _sqlite_plan(using: str, sql: str) -> Iterator[str]:
    for *_, detail in rows(using, f"EXPLAIN QUERY PLAN {sql}"):
        index = re.search(r"INDEX (\S+)", detail)
        yield index[1] if index else detail


def _postgresql_plan(using: str, sql: str) -> Iterator[str]:
    [[explained]] = rows(using, f"EXPLAIN (FORMAT JSON) {sql}")
    [top] = json.loads(explained) if isinstance(explained, str) else explained
    nodes = [top["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", [])
        # A limit, and the number that it is told before it begins.
        is_number = node.get("Parent Relationship") == "InitPlan" and node["Node Type"] == "Result"
        if node["Node Type"] != "Limit" and not is_number:
            yield node.get("Index Name", node["Node Type"])


def _mysql_plan(using: str, sql: str) -> Iterator[str]:
    with connections[using].cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        names = [column[0] for column in cursor.description]
        steps = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for step in steps:
        yield step["key"] or "whole table"
        if "filesort" in (step["Extra"] or ""):
            yield step["Extra"]


_PLAN = {"sqlite": _sqlite_plan, "postgresql": _postgresql_plan, "mysql": _mysql_plan}


def plan(using: str, sql: str, table: str = "asm_events") -> set[str]:
    """Names of the indexes that the database uses for `sql`, and whatever it has to do beside."""
    known = indexes(using, table)
    steps = _PLAN[connections[using].vendor](using, sql)
    return {known[step].name if step in known else step for step in steps}


def test_each_query_uses_its_index_and_sorts_nothing(using: str) -> None:
    fill(using)
    if connections[using].vendor == "postgresql":
        # Of a small table it reads the few pages in any order, and sorts. Of a large one in
        # memory it does not.
        for setting in ("enable_bitmapscan = off", "random_page_cost = 1"):
            with connections[using].cursor() as cursor:
                cursor.execute(f"SET {setting}")
    used = {name: plan(using, sent(using, query)) for name, (_, query) in NEEDS.items()}
    connections[using].close()  # and the settings with it
    assert used == {name: {index} for name, (index, _) in NEEDS.items()}


@pytest.mark.parametrize("column", ["cost_usd", "duration"])
def test_the_sums_of_sessions_come_in_the_order_of_their_index(using: str, column: str) -> None:
    sums = SessionSum._base_manager.using(using)
    hours = [START + timedelta(hours=number) for number in range(2_000)]
    sums.bulk_create(
        SessionSum(
            session_id=f"ses_{number:04}",
            summed_at=LATER,
            first_started_at=hour,
            last_started_at=hour,
            cost_usd=number % 7 or None,
            duration=timedelta(seconds=number % 7) or None,
        )
        for number, hour in enumerate(hours)
    )
    wanted = UsageFilterSet({"since": hours[500], "until": hours[1_500]}).checked()
    ranking = Ranking(Run.objects.using(using), Coverage.of(using, wanted), wanted, 10)
    with connections[using].cursor() as cursor:
        if sql := {"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE"}.get(
            connections[using].vendor
        ):
            cursor.execute(f"{sql} asm_session_sums")
        if connections[using].vendor == "postgresql":  # which reads all of a small table
            cursor.execute("SET enable_seqscan = off")
            cursor.execute("SET enable_bitmapscan = off")
    with CaptureQueriesContext(connections[using]) as captured:
        assert len(list(ranking._by_sums(column)[:50])) == 50
    [entry] = captured
    index = f"asm_session_sums_{column.partition('_')[0]}"
    used = plan(using, entry["sql"], "asm_session_sums")
    connections[using].close()  # and the settings with it
    assert used == {index}


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("using", [*map(with_access, ("default", "postgresql"))], indirect=True)
def test_the_statement_that_counts_looks_for_ids_in_an_index(using: str, count: int) -> None:
    if count == 1 and connections[using].vendor == "postgresql":
        pytest.skip("one event is stored by a function, whose plans have a test of their own")
    fill(using)
    with CaptureQueriesContext(connections[using]) as captured:
        store(using).append_events([make_event(BUSY) for _ in range(count)])
    [counted] = [entry["sql"] for entry in captured if "RETURNING last_sequence" in entry["sql"]]
    if connections[using].vendor == "postgresql":  # which reads the few pages of a small table
        with connections[using].cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
    steps = [step for step in _PLAN[connections[using].vendor](using, counted) if "event" in step]
    connections[using].close()  # and the setting with it
    known = indexes(using, "asm_events")
    assert {known[step].name for step in steps} == {PRIMARY}
