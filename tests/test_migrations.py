"""The tables can be made, taken away and changed with data in them, on every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import health_check
from asm_store.test.factories import make_event, make_run, make_session
from tests.failures import execute
from tests.threads import run_threads

Migrate = Callable[[str], None]
# What each state's tables are filled with, by model: its columns of that state. A migration that
# adds a column adds a value here; a test below says when one is missing.
ROWS: dict[str, list[dict[str, Any]]] = {
    "Session": [
        {
            "id": "ses_parent",
            "agent_id": "Ägent",
            "status": "completed",
            "parent_session_id": None,
            "metadata": {"_sanitized": {"nul": 1, "surrogate": 0}},
            "context": {"nested": [{"deep": [None, True, 1.5]}]},
            "tags": ["pinned", "größe"],
            "created_at": datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            "updated_at": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "deleted_at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        },
        {
            "id": "ses_child",
            "agent_id": "assistant",
            "status": "active",
            "parent_session_id": "ses_parent",
            "metadata": {},
            "context": {},
            "tags": [],
            "created_at": datetime(1000, 1, 1, tzinfo=UTC),
            "updated_at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "deleted_at": None,
        },
    ],
    "Run": [
        {
            "id": "run_1",
            "session_id": "ses_child",
            "status": "running",
            "input": {"messages": [{"role": "user", "content": "Grüße 😀"}]},
            "output": None,
            "error": {"error_message": "no"},
            "metadata": {"a": 1},
            "turn_count": 3,
            "token_usage": {"input_tokens": 2**53 + 1, "output_tokens": 7},
            "started_at": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "ended_at": None,
            "provider": "claude",
            "provider_metadata": {"model": "m-1"},
            "cost_usd": 0.1,
        },
    ],
    "Event": [
        {
            "id": "evt_1",
            "type": "message_sent",
            "timestamp": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "session_id": "ses_child",
            "run_id": "run_1",
            "sequence_number": 1,
            "data": {"role": "user", "content": "line\nbreak \\ ' \" \u2028"},
            "metadata": {"original": {"big": 2**64 + 1}},
            "schema_version": 1,
            "provider": "claude",
            "correlation_id": "call-1",
        },
        {
            "id": "evt_2",
            "type": "token_usage_updated",
            "timestamp": datetime(2025, 1, 2, 3, 4, 5, 7, tzinfo=UTC),
            "session_id": "ses_child",
            "run_id": None,
            "sequence_number": 2,
            "data": {},
            "metadata": {},
            "schema_version": 2,
            "provider": None,
            "correlation_id": None,
        },
    ],
    "SessionSequence": [
        {
            "session_id": "ses_child",
            "last_sequence": 2,
            "updated_at": datetime(2025, 1, 2, 3, 4, 5, 7, tzinfo=UTC),
        },
        {
            "session_id": "ses_parent",
            "last_sequence": 2**40,
            "updated_at": datetime(2025, 1, 2, 3, 4, 5, 7, tzinfo=UTC),
        },
    ],
    "Artifact": [
        {
            "id": "art_1",
            "session_id": "ses_child",
            "run_id": None,
            "key": "report/ü.txt",
            "content_type": None,
            "byte_size": 2**40,
            "checksum_sha256": "0" * 64,
            "storage_backend": "default",
            "storage_ref": "asm/report.txt",
            "metadata": {"a": [1]},
            "created_at": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "deleted_at": None,
        },
    ],
    "UsageSum": [
        {
            "id": 1,
            "begin": datetime(2025, 1, 2, 3, tzinfo=UTC),
            "agent_id": "Ägent",
            "provider": "claude",
            "model": None,
            "is_stored": True,
            "session_count": 0,
            "run_count": 3,
            "error_count": 1,
            "empty_runs": 0,
            "unsplit_runs": 0,
            "unsplit_tokens": 0.0,
            "input_tokens": 1.5,
            "output_tokens": 2.0,
            "total_tokens": 3.5,
            "cache_read_tokens": 0.0,
            "cache_creation_tokens": 1e100,
            "cost_usd": 0.25,
        },
    ],
    "SessionSum": [
        {
            "session_id": "ses_child",
            "summed_at": datetime(2025, 1, 2, 6, tzinfo=UTC),
            "first_started_at": datetime(2025, 1, 2, 3, tzinfo=UTC),
            "last_started_at": datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "last_ended_at": None,
            "run_count": 2,
            "error_count": 1,
            "total_tokens": 1e100,
            "cost_usd": 0.25,
            "duration": timedelta(days=3, microseconds=1),
        },
    ],
    "UsageMark": [{"id": 1, "begin": datetime(2025, 1, 2, 3, tzinfo=UTC)}],
    "UsageProgress": [{"name": "hours", "until": datetime(2025, 1, 2, 4, tzinfo=UTC)}],
}


def migrations() -> list[str]:
    """The names of this app's migrations, the first one first."""
    graph = MigrationLoader(None).graph
    [latest] = graph.leaf_nodes("asm_store")
    return [name for app, name in graph.forwards_plan(latest) if app == "asm_store"]


NAMES = migrations()


@pytest.fixture
def migrate(using: str) -> Iterator[Migrate]:
    """Brings this database to a state; afterwards it is at the latest one again."""

    def to(state: str) -> None:
        call_command("migrate", "asm_store", state, database=using, verbosity=0)

    yield to
    to(NAMES[-1])
    # No later test shall meet a statement that was prepared for a table of this one.
    connections[using].close()


def models_of(state: str) -> dict[str, type[models.Model]]:
    """The models as they were at that migration, by name."""
    historical = MigrationLoader(None).project_state(("asm_store", state)).apps
    return {model.__name__: model for model in historical.get_app_config("asm_store").get_models()}


def columns_of(model: type[models.Model]) -> set[str]:
    return {field.attname for field in model._meta.concrete_fields if not field.generated}


def fill(using: str, state: str) -> None:
    for name, model in models_of(state).items():
        columns = columns_of(model)
        for row in ROWS[name]:
            known = {column: row[column] for column in row if column in columns}
            model._base_manager.using(using).create(**known)


def stored(using: str, state: str) -> dict[str, list[dict[str, Any]]]:
    """The rows as today's models read them, with the columns that `state` had too."""
    then = models_of(state)
    found = {}
    for model in apps.get_app_config("asm_store").get_models():
        name = model.__name__
        if name in then:
            columns = columns_of(model) & columns_of(then[name])
            found[name] = list(model._base_manager.using(using).order_by("pk").values(*columns))
    return found


def expected(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """`ROWS`, reduced to the tables and columns of `rows`, by primary key."""
    return {
        name: sorted(
            ({column: row[column] for column in rows[name][0]} for row in ROWS[name]),
            key=lambda row: str(row.get("id", row.get("session_id"))),
        )
        for name in rows
    }


def tables(using: str) -> list[str]:
    return [name for name in connections[using].introspection.table_names() if name[:4] == "asm_"]


def schema(using: str) -> dict[str, Any]:
    """What the database says of the tables: columns, constraints and indexes."""
    introspection = connections[using].introspection
    with connections[using].cursor() as cursor:
        return {
            name: (
                introspection.get_table_description(cursor, name),
                introspection.get_constraints(cursor, name),
            )
            for name in tables(using)
        }


def recorded(using: str) -> list[str]:
    applied = MigrationRecorder(connections[using]).applied_migrations()
    return sorted(name for app, name in applied if app == "asm_store")


def test_backwards_to_nothing_and_forwards_again(using: str, migrate: Migrate) -> None:
    before = schema(using)
    assert sorted(before) == [
        "asm_artifacts",
        "asm_events",
        "asm_runs",
        "asm_session_sequences",
        "asm_session_sums",
        "asm_sessions",
        "asm_usage_marks",
        "asm_usage_progress",
        "asm_usage_sums",
    ]
    fill(using, NAMES[-1])
    migrate("zero")
    assert (tables(using), recorded(using)) == ([], [])
    migrate(NAMES[-1])
    assert schema(using) == before
    assert recorded(using) == NAMES


@pytest.mark.parametrize("state", NAMES)
def test_data_of_each_earlier_state_is_there_in_the_latest(
    using: str, migrate: Migrate, state: str
) -> None:
    migrate("zero")
    migrate(state)
    fill(using, state)
    migrate(NAMES[-1])
    rows = stored(using, state)
    assert rows
    assert rows == expected(rows)


@pytest.mark.parametrize("state", NAMES)
def test_the_store_goes_on_with_data_of_each_earlier_state(
    using: str, migrate: Migrate, state: str
) -> None:
    migrate("zero")
    migrate(state)
    fill(using, state)
    migrate(NAMES[-1])
    store = DatabaseSessionStore(using)
    assert store.get_session("ses_parent").tags == ["pinned", "größe"]
    appended = store.append_event_with_sequence(make_event("ses_child", run_id="run_1"))
    assert appended.sequence_number == 3
    assert [event.pk for event in store.get_events("ses_child")] == ["evt_1", "evt_2", appended.pk]
    store.delete_session("ses_child")
    assert store.get_latest_sequence("ses_parent") == 2**40


@pytest.mark.parametrize("state", NAMES)
def test_code_of_each_earlier_state_writes_to_the_latest(using: str, state: str) -> None:
    """As it does during an upgrade: it names the columns that it knew."""
    fill(using, state)
    rows = stored(using, state)
    assert rows == expected(rows)
    store = DatabaseSessionStore(using)
    events = store.append_events([make_event("ses_child", run_id="run_1"), make_event("ses_child")])
    assert [event.sequence_number for event in events] == [3, 4]
    [run] = store.list_runs("ses_child")
    assert (run.pk, run.error) == ("run_1", {"error_message": "no"})


@pytest.fixture
def later_columns(using: str) -> Iterator[None]:
    """Each table has a column more, as a later version may add it; others are at work meanwhile."""
    names = tables(using)
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session(id="before"))
    store.append_events([make_event(session), make_event(session)])
    store.append_event(make_event(session))
    store.get_events("before")
    try:
        for name in names:
            alter(using, f"ALTER TABLE {name} ADD COLUMN later integer DEFAULT 7 NOT NULL")
        yield
    finally:
        for name in names:
            alter(using, f"ALTER TABLE {name} DROP COLUMN later")


def alter(using: str, sql: str) -> None:
    run_threads([lambda: execute(using, sql)])


@pytest.mark.usefixtures("later_columns")
def test_this_code_goes_on_with_columns_of_a_later_one(using: str) -> None:
    store = DatabaseSessionStore(using)
    numbers = [event.sequence_number for event in store.get_events("before")]
    added = store.append_events([make_event("before"), make_event("before")])
    added.append(store.append_event_with_sequence(make_event("before")))
    assert [*numbers, *(event.sequence_number for event in added)] == [1, 2, 3, 4, 5, 6]
    session, run = make_session(id="new"), make_run("new", status="completed")
    store.flush(session, run, [make_event(session, run_id=run.pk)])
    store.update_session("new", add_tags=["x"])
    assert len(list(store.iter_events_json("new"))) == 1
    assert list(execute(using, "SELECT DISTINCT later FROM asm_events")) == [(7,)]
    assert health_check(using=using) == []
    store.delete_session("new")
    assert [each.pk for each in store.list_sessions()] == ["before"]


@pytest.mark.parametrize("state", NAMES)
def test_each_state_has_data_for_every_column(state: str) -> None:
    for name, model in models_of(state).items():
        assert ROWS.get(name), name
        for row in ROWS[name]:
            assert columns_of(model) <= row.keys(), name


@pytest.mark.django_db(databases="__all__")
def test_the_migrations_say_what_the_models_say() -> None:
    # It leaves with an exit code when a migration is missing.
    call_command("makemigrations", "asm_store", check=True, dry_run=True, verbosity=0)
